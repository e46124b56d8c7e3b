//! `[sysctl]`: the switches of IPVS, by the kernel's names.

use super::Reader;
use crate::config::error::suggestion;
use crate::config::raw::Sysctl;
use crate::config::{ConfigError, Configuration};
use crate::control::sysctl::{self, Switch, SysctlError};

impl Reader<'_> {
    /// Sets the switches that the table names. The function is the one that `director sysctl` ends in, so that file
    /// and command know the same switches and the same values.
    pub(super) fn sysctl(self, raw: &Sysctl, configuration: &mut Configuration) -> Result<(), ConfigError> {
        let Configuration { tuning, options, .. } = configuration;
        for switch in &raw.0 {
            let (name, value) = (switch.name.get_ref(), switch.value.get_ref());
            // Whole names alone: what stands in a file should mean the same to everybody who reads it.
            let done = if name.contains('.') {
                sysctl::set(tuning, options, name, value)
            } else {
                Err(SysctlError::Unknown)
            };
            done.map_err(|error| match error {
                SysctlError::Unknown => {
                    let known: Vec<String> = sysctl::all().map(Switch::full_name).collect();
                    let known: Vec<&str> = known.iter().map(String::as_str).collect();
                    self.error(switch.name.span(), format!("unknown switch `{name}`"))
                        .hint(suggestion(name, &known).unwrap_or_default())
                }
                SysctlError::Value => self.error(switch.value.span(), format!("{name} cannot be `{value}`")),
                error @ (SysctlError::Fixed(_) | SysctlError::NotKept(_)) => {
                    self.error(switch.value.span(), format!("{name} cannot be `{value}`: {error}"))
                }
            })?;
        }
        Ok(())
    }
}
