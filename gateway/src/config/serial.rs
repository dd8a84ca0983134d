//! `[[device.serial]]`: which ports, said in exactly one of three ways.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// `[[device.serial]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct SerialConfig {
    /// Which ports.
    pub ports: PortSource,
    /// Bits per second.
    pub baud: u32,
}

/// How ports are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSource {
    /// `port`: one path, best below /dev/serial/by-id/.
    Path(PathBuf),
    /// `ports`: whatever is there under a name of this form.
    Pattern(PortPattern),
    /// `usb`: the ports of USB devices, under whatever name.
    Usb(UsbId),
}

/// A path with `*` (any letters, also none) and `?` (one letter) in its last part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPattern {
    folder: PathBuf,
    name: String,
}

/// What a USB device says of itself, as `lsusb` and sysfs print it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbId {
    /// Four hex digits, small.
    pub vendor: String,
    /// Likewise.
    pub product: String,
    /// Serial number; none: any.
    pub serial: Option<String>,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    port: Option<PathBuf>,
    ports: Option<String>,
    usb: Option<UsbTable>,
    #[serde(default = "default_baud")]
    baud: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsbTable {
    vendor: String,
    product: String,
    serial: Option<String>,
}

fn default_baud() -> u32 {
    115_200
}

impl SerialConfig {
    /// One port by its path.
    #[must_use]
    pub fn at(port: &Path, baud: u32) -> Self {
        Self { ports: PortSource::Path(port.into()), baud }
    }
}

impl TryFrom<Table> for SerialConfig {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { port, ports, usb, baud } = table;
        let ports = match (port, ports, usb) {
            (Some(port), None, None) => PortSource::Path(path(port)?),
            (None, Some(ports), None) => PortSource::Pattern(PortPattern::parse(&ports)?),
            (None, None, Some(usb)) => PortSource::Usb(UsbId::try_from(usb)?),
            (None, None, None) => {
                return Err("a serial port needs one of port = \"/dev/serial/by-id/...\", \
                            ports = \"/dev/ttyACM*\" and usb = { vendor = \"2e8a\", product = \"000a\" }"
                    .into());
            }
            (port, ports, usb) => {
                let given = [
                    port.map(|port| format!("port = {port:?}")),
                    ports.map(|ports| format!("ports = {ports:?}")),
                    usb.map(|_| "usb = { ... }".to_owned()),
                ];
                let given: Vec<String> = given.into_iter().flatten().collect();
                return Err(format!(
                    "{} are different ways to say which port: keep one, or give each a table [[device.serial]]",
                    given.join(" and ")
                ));
            }
        };
        Ok(Self { ports, baud })
    }
}

fn path(port: PathBuf) -> Result<PathBuf, String> {
    let text = port.to_string_lossy();
    // Such a file may exist; nobody means it.
    if text.contains('*') {
        return Err(format!(
            "port = {text:?} is one path: write ports = {text:?} for all that match"
        ));
    }
    Ok(port)
}

impl PortPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let is_wild = |part: &str| part.contains(['*', '?']);
        let (folder, name) = text.rsplit_once('/').unwrap_or((".", text));
        if is_wild(folder) {
            return Err(format!(
                "ports = {text:?}: * and ? are for the last part of the path, as in \"/dev/ttyACM*\""
            ));
        }
        if !is_wild(name) {
            return Err(format!(
                "ports = {text:?} has no * or ?: write port = {text:?} for one path"
            ));
        }
        let folder = if folder.is_empty() { "/" } else { folder };
        Ok(Self { folder: folder.into(), name: name.into() })
    }

    /// Where the files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a file there is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        // Where the last * was met, to let it take one letter more.
        let (pattern, name): (Vec<char>, Vec<char>) =
            (self.name.chars().collect(), name.chars().collect());
        let (mut at, mut of, mut star) = (0, 0, None);
        while let Some(letter) = name.get(at) {
            match pattern.get(of) {
                Some('*') => {
                    star = Some((of, at));
                    of += 1;
                }
                Some(wanted) if *wanted == '?' || wanted == letter => {
                    at += 1;
                    of += 1;
                }
                _ => {
                    let Some((star_of, star_at)) = star else { return false };
                    star = Some((star_of, star_at + 1));
                    (at, of) = (star_at + 1, star_of + 1);
                }
            }
        }
        pattern.iter().skip(of).all(|left| *left == '*')
    }
}

impl TryFrom<UsbTable> for UsbId {
    type Error = String;

    fn try_from(table: UsbTable) -> Result<Self, String> {
        let UsbTable { vendor, product, serial } = table;
        if serial.as_ref().is_some_and(|serial| serial.trim().is_empty()) {
            return Err("usb.serial = \"\": leave it out for any serial number".into());
        }
        Ok(Self { vendor: hex("vendor", &vendor)?, product: hex("product", &product)?, serial })
    }
}

fn hex(key: &str, text: &str) -> Result<String, String> {
    let bare = text.trim_start_matches("0x");
    let number = u16::from_str_radix(bare, 16).ok().filter(|_| !bare.starts_with('+'));
    match number.map(|number| format!("{number:04x}")) {
        Some(digits) if digits.eq_ignore_ascii_case(text) => Ok(digits),
        Some(digits) => Err(format!("usb.{key} = {text:?}: write it as \"{digits}\"")),
        None => Err(format!(
            "usb.{key} = {text:?}: write four hex digits, as `lsusb` prints them: \"2e8a\""
        )),
    }
}

impl fmt::Display for PortSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Pattern(PortPattern { folder, name }) => folder.join(name).display().fmt(f),
            Self::Usb(UsbId { vendor, product, serial }) => {
                write!(f, "usb {vendor}:{product}")?;
                serial.as_ref().map_or(Ok(()), |serial| write!(f, " {serial}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::parse;
    use super::*;

    fn read(table: &str) -> Result<SerialConfig, String> {
        let text = format!("[[device.serial]]\n{table}");
        parse(&text).map(|config| config.device.serial[0].clone())
    }

    #[test]
    fn each_way_alone_is_read() {
        for (table, shown) in [
            ("port = '/dev/ttyACM0'", "/dev/ttyACM0"),
            ("ports = '/dev/ttyACM*'", "/dev/ttyACM*"),
            ("usb = { vendor = '2E8A', product = '000a' }", "usb 2e8a:000a"),
            ("usb = { vendor = '2e8a', product = '000a', serial = 'E66' }", "usb 2e8a:000a E66"),
        ] {
            let config = read(table).unwrap();
            assert_eq!((config.ports.to_string().as_str(), config.baud), (shown, 115_200));
        }
    }

    #[test]
    fn everything_else_says_how_to_write_it() {
        for (table, error) in [
            ("baud = 9600", "needs one of port = \"/dev/serial/by-id/...\""),
            ("port = 'a'\nports = 'b*'", "port = \"a\" and ports = \"b*\" are different ways"),
            (
                "port = 'a'\nusb = { vendor = '2e8a', product = '000a' }",
                "port = \"a\" and usb = { ... } are",
            ),
            ("port = '/dev/ttyACM*'", "write ports = \"/dev/ttyACM*\""),
            ("ports = '/dev/ttyACM0'", "write port = \"/dev/ttyACM0\""),
            ("ports = '/dev/*/tty?'", "last part of the path"),
            ("usb = { vendor = '0x2E8A', product = '000a' }", "write it as \"2e8a\""),
            ("usb = { vendor = '2e8a', product = 'a' }", "write it as \"000a\""),
            ("usb = { vendor = 'pico', product = '000a' }", "four hex digits"),
            ("usb = { vendor = '+e8a', product = '000a' }", "four hex digits"),
            ("usb = { vendor = '2e8a', product = '000a', serial = '' }", "leave it out"),
            ("usb = { vendor = '2e8a' }", "missing field `product`"),
            ("usb = { vendr = '2e8a' }", "did you mean `vendor`?"),
            ("prt = 'a'", "did you mean `port`?"),
        ] {
            let found = read(table).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
    }

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, name, matches) in [
            ("ttyACM*", "ttyACM0", true),
            ("ttyACM*", "ttyACM", true),
            ("ttyACM*", "ttyUSB0", false),
            ("ttyACM*", "attyACM0", false),
            ("ttyACM?", "ttyACM0", true),
            ("ttyACM?", "ttyACM10", false),
            ("ttyACM?", "ttyACM", false),
            ("*Pico*-if00", "usb-Raspberry_Pi_Pico_E66-if00", true),
            ("*Pico*-if00", "usb-Raspberry_Pi_Pico_E66-if02", false),
            ("*ab*ab", "ababab", true),
            ("*", "", true),
            ("?*", "ü", true),
        ] {
            let pattern = PortPattern::parse(&format!("/dev/{pattern}")).unwrap();
            assert_eq!(pattern.matches(name), matches, "{pattern:?} {name}");
        }
    }
}
