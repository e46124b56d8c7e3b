use core::net::SocketAddr;
use core::time::Duration;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;

use lvs_std::health::{BadTls, Doing, Failure, Http, Https, Trust};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::servers::{answer, nobody, read_head, serve};
use crate::{SHORT, ask, ask_within};

/// A server with a certificate of its own for these names, the file that has it, and what it is asked for and says.
fn secure(names: &[&str], file: &str, says: &'static str) -> (SocketAddr, PathBuf) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let path = std::env::temp_dir().join(format!("health-test-{}-{file}.pem", std::process::id()));
    std::fs::write(&path, made.cert.pem()).expect("a temporary file");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a key");
    let config = Arc::new(config);
    let target = serve(move |mut stream| {
        let mut tls = ServerConnection::new(config.clone()).expect("a connection");
        let mut stream = Stream::new(&mut tls, &mut stream);
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
            head.extend(byte);
        }
        let _ = stream.write_all(says.as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
        // Whoever closes at once resets what was not read yet.
        let _ = stream.sock.read(&mut byte);
    });
    (target, path)
}

fn https(trust: Trust, sni: Option<&str>) -> Https {
    let mut http = Http::default();
    http.text = Some("well".to_owned());
    Https::new(http, trust, sni).expect("a check")
}

const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well";

#[test]
fn a_server_that_answers_by_tls_is_up() {
    let (target, file) = secure(&["www.example.org"], "up", WELL);
    assert_eq!(ask(target, https(Trust::Any, None)), Ok(()));
    assert_eq!(ask(target, https(Trust::File(file.clone()), Some("www.example.org"))), Ok(()));
    std::fs::remove_file(file).unwrap();
    let (target, file) = secure(&["x"], "long", "HTTP/1.1 500 Sick\r\n\r\n");
    assert!(matches!(ask(target, https(Trust::Any, None)), Err(Failure::Status { got: 500, .. })));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_certificate_is_checked_if_that_is_asked_for() {
    let (target, file) = secure(&["www.example.org"], "names", WELL);
    let (_, other) = secure(&["www.example.org"], "other", WELL);
    let refusals = [
        https(Trust::File(file.clone()), Some("www.example.com")),
        https(Trust::File(file.clone()), None),
        https(Trust::File(other.clone()), Some("www.example.org")),
    ];
    for check in refusals {
        let failure = ask(target, check.clone()).unwrap_err();
        assert!(matches!(failure, Failure::Tls(_)), "{check:?}: {failure}");
    }
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(other).unwrap();
}

#[test]
fn the_host_field_names_the_server_unless_another_name_is_given() {
    let (target, file) = secure(&["www.example.org"], "host", WELL);
    let http = Http::new("GET", "/", Some("www.example.org:8443")).unwrap();
    let check = Https::new(http, Trust::File(file.clone()), None).unwrap();
    assert_eq!(ask(target, check), Ok(()));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_file_without_certificates_is_refused() {
    let new = |path: &str| Https::new(Http::default(), Trust::File(path.into()), None);
    assert!(
        matches!(new("/nowhere/roots.pem"), Err(BadTls::Trust(why)) if why.starts_with("/nowhere/roots.pem: "))
    );
    assert!(matches!(new("/dev/null"), Err(BadTls::Trust(why)) if why.contains("no certificate")));
    let name = Https::new(Http::default(), Trust::Any, Some("a b"));
    assert_eq!(name, Err(BadTls::Name));
}

#[test]
fn a_server_that_does_not_speak_tls_is_down() {
    let plain = answer("HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(ask_within(plain, https(Trust::Any, None), SHORT).unwrap_err(), late(Doing::Handshake));
    let eager = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        read_head(&mut stream);
    });
    assert!(matches!(ask(eager, https(Trust::Any, None)), Err(Failure::Tls(_))));
    assert_eq!(ask(nobody(), https(Trust::Any, None)), Err(Failure::Refused));
    let closing = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1_024]);
    });
    assert_eq!(ask(closing, https(Trust::Any, None)), Err(Failure::Closed { doing: Doing::Handshake }));
}

#[test]
fn garbage_in_the_handshake_ends_it() {
    // The beginning of a record of 16 KiB that never becomes whole, in drops; and whole ones of noise.
    let drip = serve(|mut stream| {
        let _ = stream.write_all(b"\x16\x03\x03\x40\x00");
        while stream.write_all(b"x").is_ok() {
            sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(ask_within(drip, https(Trust::Any, None), SHORT).unwrap_err(), late(Doing::Handshake));
    let noise = serve(|mut stream| while stream.write_all(b"\x16\x03\x03\x00\x04noise").is_ok() {});
    assert!(matches!(ask(noise, https(Trust::Any, None)), Err(Failure::Tls(_))));
}

fn late(doing: Doing) -> Failure {
    Failure::TimedOut { doing, after: SHORT }
}
