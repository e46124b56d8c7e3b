//! Watches how much memory is left, for the defences that depend on it.

use core::time::Duration;
use std::io;
use std::thread;

use super::RuntimeGroup;
use super::shutdown::Shutdown;
use crate::cpu::available_pages;

/// Tells the director each second how much memory is left, as long as it works.
pub(super) fn watch(group: RuntimeGroup, shutdown: Shutdown) -> io::Result<()> {
    let mut pages = available_pages()?;
    let watch = move || {
        while group.with_each(move |_, director, _, _| director.report_available(pages)).is_ok() {
            if shutdown.sleep(INTERVAL) {
                return;
            }
            // A reading that fails is no reason to believe that memory is short, or is not.
            pages = available_pages().unwrap_or(pages);
        }
    };
    thread::Builder::new().name("memory".to_owned()).spawn(watch).map(drop)
}

/// How often the defences look at memory.
const INTERVAL: Duration = Duration::from_secs(1);
