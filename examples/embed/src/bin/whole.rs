//! A whole director from a configuration's text: it runs, is reloaded with a plan, drains a server, explains itself,
//! and ends.
//!
//! The program needs an interface `eth0` and the capabilities `CAP_NET_RAW` and `CAP_NET_ADMIN`; tests/whole.rs gives
//! it all of them in a namespace of its own.

use core::error::Error;

use lvs_std::config::ConfigSource;
use lvs_std::control::ServiceName;
use lvs_std::control::api::{ApiEvent, Question};
use lvs_std::runtime::{Runtime, RuntimeOptions};

const CONFIGURATION: &str = r#"
[[interface]]
name = "eth0"
addresses = ["10.0.1.254/24"]

[sysctl]
net.ipv4.vs.sloppy_tcp = 1

[[service]]
protocol = "tcp"
address = "10.0.1.100"
port = 80
scheduler = "mh"

[[service.server]]
address = "10.0.1.11"
method = "dr"

[[service.server]]
address = "10.0.1.12"
method = "dr"
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::start(CONFIGURATION.parse::<ConfigSource>()?, RuntimeOptions::default())?;
    let director = runtime.handle();
    let events = director.events();

    let third = "[[service.server]]\naddress = \"10.0.1.13\"\nmethod = \"dr\"\n";
    let changed: ConfigSource = format!("{CONFIGURATION}{third}").parse()?;
    print!("{}", director.plan(&changed)?);
    director.reload(changed)?;

    let web = ServiceName::tcp("10.0.1.100:80".parse()?);
    director.drain(web, "10.0.1.12:80".parse()?, None)?;
    let drained = events.iter().find(|event| matches!(event, ApiEvent::Drained { .. }));
    println!("{drained:?}");

    let (client, destination) = ("192.0.2.8:40000".parse()?, "10.0.1.100:80".parse()?);
    let question = Question::Packet { protocol: "tcp".to_owned(), client, destination, mark: 0 };
    print!("{}", director.explain(&question)?);

    director.stop();
    print!("{}", runtime.join()?.statistics);
    Ok(())
}
