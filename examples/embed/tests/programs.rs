//! Every program runs and says what it should.

use std::process::Command;

fn output(program: &str) -> String {
    let output = Command::new(program).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn a_director_over_a_pair_takes_real_servers_in_turn() {
    let text = output(env!("CARGO_BIN_EXE_minimal"));
    let expected = "a packet from 198.51.100.7 goes to 10.0.1.12\n\
                    a packet from 198.51.100.8 goes to 10.0.1.11\n\
                    a packet from 198.51.100.9 goes to 10.0.1.12\n";
    assert_eq!(text, expected, "the server that was added last comes first");
}

#[test]
fn a_director_in_a_static_shares_by_weight_and_forgets_in_time() {
    let text = output(env!("CARGO_BIN_EXE_no_alloc"));
    let count = |server: &str| text.matches(server).count();
    assert_eq!(
        [count("10.0.1.11:8080"), count("10.0.1.12:8080"), count("10.0.1.13:8080")],
        [3, 2, 1],
        "{text}"
    );
    assert!(text.contains("\n6 half-open connections expired\n6 events told about it\n"), "{text}");
}

#[test]
fn a_scheduler_of_ones_own_decides() {
    let text = output(env!("CARGO_BIN_EXE_custom_scheduler"));
    let server = |client: &str| {
        let line = text.lines().find(|line| line.starts_with(client)).unwrap();
        line.rsplit(' ').next().unwrap()
    };
    assert_eq!([server("192.0.2.7"), server("192.0.2.8")], ["10.0.1.11"; 2], "{text}");
    let mut others = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"].map(server);
    others.sort_unstable();
    assert_eq!(others, ["10.0.1.12", "10.0.1.12", "10.0.1.13", "10.0.1.13"], "{text}");
}
