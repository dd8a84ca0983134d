//! The device id by default: the board's name and the number its maker gave to the chip.

use headwater_firmware::protocol::DeviceId;

/// `board-0123456789abcdef`: the number in hex, as far as an id has room.
///
/// # Panics
/// When `board` is not 1 to 31 characters of an id's alphabet, at the first start of a new board.
#[must_use]
pub fn device_id(board: &str, number: &[u8]) -> DeviceId {
    let digits = number.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    let hex = digits.map(|digit| if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
    let mut id = [0; ID_MAX];
    let mut len = 0;
    for (place, byte) in id.iter_mut().zip(board.bytes().chain([b'-']).chain(hex)) {
        *place = byte;
        len += 1;
    }
    DeviceId::from_bytes(id.get(..len).unwrap_or_default()).expect("an id's alphabet and length")
}

/// Longest device id, bytes.
const ID_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_follows_in_hex_as_far_as_there_is_room() {
        for (board, number, expect) in [
            ("rp2040", &[0xE6, 0x61, 0x24][..], "rp2040-e66124"),
            ("esp32c3", &[0; 6], "esp32c3-000000000000"),
            ("stm32f411", &[0xAB; 12], "stm32f411-ababababababababababab"),
        ] {
            assert_eq!(device_id(board, number), DeviceId::new(expect).expect("legal"));
        }
    }
}
