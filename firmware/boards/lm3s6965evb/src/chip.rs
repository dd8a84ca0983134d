//! The chip around the peripherals: core clock, clock gates, pins and identity.

use crate::mmio::Register;

/// Core clock in Hz: the PLL's 200 MHz divided by 16. It is also what QEMU starts with.
pub const CORE_HZ: u32 = 12_500_000;

/// Brings up the PLL from the 8 MHz crystal, then clocks and pins of UART0, UART1, I2C0 and timer 0.
pub fn start() {
    start_pll();
    GATES_1.change(GATE1_UART0 | GATE1_UART1 | GATE1_I2C0 | GATE1_TIMER0, 0);
    GATES_2.change(GATE2_PORT_A | GATE2_PORT_B | GATE2_PORT_D, 0);
    // The data sheet asks for three clocks before a gated block is touched; a read back takes them.
    let _ = GATES_2.read();
    PORT_A.give_to_peripheral(UART0_PINS);
    PORT_D.give_to_peripheral(UART1_PINS);
}

/// The number the maker burned into the user registers: the evaluation board's MAC address.
pub fn mac() -> [u8; 6] {
    let [a, b, c, _] = USER_0.read().to_le_bytes();
    let [d, e, f, _] = USER_1.read().to_le_bytes();
    [a, b, c, d, e, f]
}

/// Whether the watchdog caused the last reset; forgets it.
pub fn take_watchdog_reset() -> bool {
    let cause = RESET_CAUSE.read();
    RESET_CAUSE.write(0);
    cause & RESET_CAUSE_WATCHDOG != 0
}

/// Frees an I2C bus on which a slave holds SDA low, because a reset caught it within a byte: up to
/// nine clocks let it finish, then a STOP. Gives the pins to the I2C peripheral afterwards.
pub fn recover_i2c_bus() {
    PORT_B.digital_open_drain(I2C_SCL | I2C_SDA);
    PORT_B.write(I2C_SCL | I2C_SDA, I2C_SCL | I2C_SDA);
    for _ in 0..9 {
        if PORT_B.read(I2C_SDA) != 0 {
            break;
        }
        PORT_B.write(I2C_SCL, 0);
        half_bit();
        PORT_B.write(I2C_SCL, I2C_SCL);
        half_bit();
    }
    PORT_B.write(I2C_SDA, 0);
    half_bit();
    PORT_B.write(I2C_SDA, I2C_SDA);
    half_bit();
    PORT_B.give_to_peripheral(I2C_SCL | I2C_SDA);
}

fn start_pll() {
    let slow = (RCC.read() | RCC_BYPASS) & !RCC_USE_DIVIDER;
    RCC.write(slow);
    let powered =
        slow & !(RCC_CRYSTAL | RCC_SOURCE | RCC_POWER_DOWN | RCC_OUTPUT_OFF) | RCC_CRYSTAL_8_MHZ;
    RCC.write(powered);
    let divided = powered & !RCC_DIVIDER | RCC_DIVIDE_BY_16 | RCC_USE_DIVIDER;
    RCC.write(divided);
    // Without a lock the chip stays on the crystal: slow, yet alive.
    if RAW_INTERRUPTS.wait_set(PLL_LOCKED, PLL_LOCK_POLLS) {
        RCC.write(divided & !RCC_BYPASS);
    }
}

/// 5 us: half a bit at 100 kHz.
fn half_bit() {
    cortex_m::asm::delay(CORE_HZ / 200_000);
}

/// One GPIO port.
struct Port(usize);

impl Port {
    fn give_to_peripheral(&self, pins: u32) {
        self.register(GPIO_ALTERNATE).change(pins, 0);
        self.register(GPIO_DIGITAL).change(pins, 0);
    }

    fn digital_open_drain(&self, pins: u32) {
        self.register(GPIO_ALTERNATE).change(0, pins);
        self.register(GPIO_OPEN_DRAIN).change(pins, 0);
        self.register(GPIO_DIGITAL).change(pins, 0);
        self.register(GPIO_DIRECTION).change(pins, 0);
    }

    /// Bits 9..2 of the data register's address are a mask of the pins it touches.
    fn read(&self, pins: u32) -> u32 {
        self.register((pins << 2) as usize).read()
    }

    fn write(&self, pins: u32, levels: u32) {
        self.register((pins << 2) as usize).write(levels);
    }

    fn register(&self, offset: usize) -> Register {
        Register::at(self.0 + offset)
    }
}

const PORT_A: Port = Port(0x4000_4000);
const PORT_B: Port = Port(0x4000_5000);
const PORT_D: Port = Port(0x4000_7000);
const GPIO_DIRECTION: usize = 0x400;
const GPIO_ALTERNATE: usize = 0x420;
const GPIO_OPEN_DRAIN: usize = 0x50C;
const GPIO_DIGITAL: usize = 0x51C;

/// PA0 and PA1.
const UART0_PINS: u32 = 0b11;
/// PD2 and PD3.
const UART1_PINS: u32 = 0b1100;
/// PB2.
const I2C_SCL: u32 = 1 << 2;
/// PB3.
const I2C_SDA: u32 = 1 << 3;

const RAW_INTERRUPTS: Register = Register::at(0x400F_E050);
const PLL_LOCKED: u32 = 1 << 6;
/// Lock takes 0.5 ms at most; some 6 crystal clocks a poll.
const PLL_LOCK_POLLS: u32 = 10_000;

const RESET_CAUSE: Register = Register::at(0x400F_E05C);
const RESET_CAUSE_WATCHDOG: u32 = 1 << 3;

const RCC: Register = Register::at(0x400F_E060);
const RCC_DIVIDER: u32 = 0xF << 23;
const RCC_DIVIDE_BY_16: u32 = 0xF << 23;
const RCC_USE_DIVIDER: u32 = 1 << 22;
const RCC_POWER_DOWN: u32 = 1 << 13;
const RCC_OUTPUT_OFF: u32 = 1 << 12;
const RCC_BYPASS: u32 = 1 << 11;
const RCC_CRYSTAL: u32 = 0xF << 6;
const RCC_CRYSTAL_8_MHZ: u32 = 0xE << 6;
/// Zero: the main oscillator.
const RCC_SOURCE: u32 = 0b11 << 4;

const GATES_1: Register = Register::at(0x400F_E104);
const GATE1_UART0: u32 = 1 << 0;
const GATE1_UART1: u32 = 1 << 1;
const GATE1_I2C0: u32 = 1 << 12;
const GATE1_TIMER0: u32 = 1 << 16;
const GATES_2: Register = Register::at(0x400F_E108);
const GATE2_PORT_A: u32 = 1 << 0;
const GATE2_PORT_B: u32 = 1 << 1;
const GATE2_PORT_D: u32 = 1 << 3;

const USER_0: Register = Register::at(0x400F_E1E0);
const USER_1: Register = Register::at(0x400F_E1E4);
