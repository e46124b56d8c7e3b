//! What the program says to whoever emulates the board, without the code that formats numbers of all kinds.

use core::panic::PanicInfo;

use cortex_m_semihosting::hio;

/// A line of text.
pub fn line(text: &str) {
    if let Ok(mut out) = hio::hstdout() {
        let _ = out.write_all(text.as_bytes());
        let _ = out.write_all(b"\n");
    }
}

/// A number and what it counts.
pub fn number(what: &str, mut number: u32) {
    let mut digits = [b' '; 11];
    for place in digits[..10].iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Ok(mut out) = hio::hstdout() {
        let _ = out.write_all(digits.trim_ascii_start());
        let _ = out.write_all(what.as_bytes());
        let _ = out.write_all(b"\n");
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    line("panicked");
    loop {
        cortex_m::asm::wfi();
    }
}
