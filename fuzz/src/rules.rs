//! Any rules as ipvsadm saves them.

use lvs_std::config::{Configuration, is_saved, services_of_saved};
use lvs_std::ipvsadm::{Numeric, parse_save};

/// The input is a text. Reading it must not panic. What can be read and said as a configuration must be a
/// configuration, with an interface before it, and that one's rules must be read again as the same configuration.
pub fn rules(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (_, read) = (is_saved(&text), parse_save(&text, &Numeric));
    let Ok(services) = services_of_saved(&text, &Numeric) else { return };
    assert!(read.is_ok(), "{text}");
    let interface = "[[interface]]\nname = \"eth0\"\naddresses = [\"10.99.255.254/16\"]\n";
    // What ipvsadm takes and a director has no use for is refused here, with words.
    let Ok(configuration) = Configuration::parse(&format!("{interface}{services}")) else { return };
    let saved = configuration.to_saved();
    let again = services_of_saved(&saved, &Numeric);
    let again = again.unwrap_or_else(|error| panic!("{error}: {saved}"));
    let again = Configuration::parse(&format!("{interface}{again}")).map(|again| again.to_saved());
    assert_eq!(again.ok().as_ref(), Some(&saved), "{text}");
}
