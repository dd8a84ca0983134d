//! The interrupt half of the vector table. Own, because cortex-m-rt's default one has no names to handlers and this
//! chip has 32 interrupts, of which two are used.
#![expect(unsafe_code, reason = "the linker places the table and the core jumps through it")]

use cortex_m::{interrupt::InterruptNumber, peripheral::NVIC};

use crate::{clock, uart};

/// The interrupts this board uses.
#[derive(Clone, Copy)]
#[repr(u16)]
pub enum Interrupt {
    /// UART0: bytes from the gateway.
    Uart0 = 2,
    /// Timer 0: the alarm that ends a sleep.
    Timer0 = 8,
}

// SAFETY: the numbers are those of the reference manual and never change.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

/// Lets `interrupt` through from now on.
pub fn enable(interrupt: Interrupt) {
    // SAFETY: no critical section here masks single interrupts, all mask PRIMASK.
    unsafe { NVIC::unmask(interrupt) };
}

type Handler = extern "C" fn();

unsafe extern "C" {
    /// cortex-m-rt's name for the handler of what has none; reset.rs has it.
    safe fn DefaultHandler();
}

// SAFETY: cortex-m-rt's link.x puts this section right behind the core's exceptions, where the
// core looks for handlers, one address an entry.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Handler; INTERRUPTS] = {
    let mut table: [Handler; INTERRUPTS] = [DefaultHandler; INTERRUPTS];
    table[Interrupt::Uart0 as usize] = uart::on_interrupt;
    table[Interrupt::Timer0 as usize] = clock::on_alarm;
    table
};

/// Interrupts of the nRF51.
const INTERRUPTS: usize = 32;
