//! A running director's metrics, asked for by HTTP.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use lvs_core::{Family, Seed};
use lvs_std::control::api::{ApiEvent, ApiHandler as _, OverviewRow, Request};
use lvs_std::control::{ServerSpec, ServerStatus, ServiceName, ServiceSpec, TableCommand, method};
use lvs_std::device::{Device, PairOptions};
use lvs_std::metrics::{MetricsListener, MetricsServer};
use lvs_std::runtime::{Assembly, Part, Runtime, RuntimeGroup, RuntimeOptions};
use lvs_std::steering::{By, Steer};

use crate::world::{SERVER, Segment, VIP, World, await_frames};

/// A director with a service, which answers at a free port of the loopback.
struct Watched {
    runtime: Runtime,
    metrics: MetricsServer,
    client: Device,
    server: Device,
}

impl Watched {
    fn new() -> Self {
        let World { worker, handle, events, client, server } = World::empty(&PairOptions::default());
        let mut workers = vec![worker];
        let steer = Steer::new(Seed::from_bytes([9; 16]), 1, By::Endpoint);
        let group = RuntimeGroup::new(&mut workers, vec![handle], steer, vec![]);
        let interfaces = vec!["eth0".to_owned(), "eth1".to_owned()];
        let assembly =
            Assembly { workers, group, events: vec![events], cpus: vec![], interfaces, supervisor: None };
        let options = RuntimeOptions::default();
        let owned = options.claims().take().unwrap();
        let runtime = Runtime::start_with(assembly, None, options, owned).unwrap();
        let web = ServiceName::tcp(format!("{VIP}:80").parse().unwrap());
        let marked = ServiceName::Mark { family: Family::V4, mark: 0xbeef };
        let of = ServerSpec::new(method::MASQUERADING, 3);
        let commands = [
            TableCommand::NewService(web, ServiceSpec::new(web.family(), "rr")),
            TableCommand::NewServer(web, format!("{SERVER}:8080").parse().unwrap(), of),
            TableCommand::NewService(marked, ServiceSpec::new(marked.family(), "wlc")),
            TableCommand::NewServer(marked, "10.0.1.12:0".parse().unwrap(), of),
        ];
        for command in commands {
            runtime.handle().with_controller(|controller| controller.submit(command)).unwrap();
        }
        let metrics = MetricsListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let metrics = metrics.serve(runtime.handle()).unwrap();
        Self { runtime, metrics, client, server }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.metrics.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// The head and the body of an answer.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: director\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        (head.to_owned(), body.to_owned())
    }

    fn samples(&self) -> BTreeMap<String, f64> {
        let (head, body) = self.ask("GET /metrics");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        lines.map(sample).collect()
    }

    /// The samples once one of them is so large: answers are up to a second old.
    fn samples_when(&self, name: &str, value: f64) -> BTreeMap<String, f64> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let samples = self.samples();
            if samples.get(name).is_some_and(|now| *now >= value) {
                return samples;
            }
            assert!(Instant::now() < until, "{name} is not {value}: {samples:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

const WEB: &str = "local_address=\"192.0.2.100\",local_mark=\"\",local_port=\"80\",proto=\"TCP\",\
                   remote_address=\"10.0.1.11\",remote_port=\"8080\"";
const MARKED: &str = "local_address=\"\",local_mark=\"0000BEEF\",local_port=\"0\",proto=\"FWM\",\
                      remote_address=\"10.0.1.12\",remote_port=\"0\"";

/// The samples of a family, their labels aside.
fn sum(samples: &BTreeMap<String, f64>, family: &str, label: &str) -> f64 {
    let of = |name: &&String| name.split('{').next() == Some(family) && name.contains(label);
    samples.keys().filter(of).map(|name| samples[name]).sum()
}

#[test]
fn servers_have_node_exporters_labels_and_their_sums_are_the_totals() {
    let mut watched = Watched::new();
    for port in 40_000..40_007 {
        watched.client.send(&Segment::syn(port).bytes()).unwrap();
        await_frames(&mut watched.server);
        watched.server.send(&Segment::reply(port).bytes()).unwrap();
        await_frames(&mut watched.client);
    }
    watched.client.send(&[0; 60]).unwrap();
    let samples = watched.samples_when("node_ipvs_outgoing_packets_total", 7.0);
    assert_eq!(samples["node_ipvs_connections_total"], 7.0);
    assert_eq!(samples[&format!("node_ipvs_backend_weight{{{WEB}}}")], 3.0);
    assert_eq!(samples[&format!("node_ipvs_backend_weight{{{MARKED}}}")], 3.0);
    let connections =
        ["active", "inactive"].map(|kind| samples[&format!("node_ipvs_backend_connections_{kind}{{{WEB}}}")]);
    assert_eq!(connections.iter().sum::<f64>(), 7.0);
    assert_eq!(samples["lvs_connections"], 7.0);
    assert!(samples["lvs_connections_capacity"] >= 1_000.0);
    for (way, total) in [("in", "incoming"), ("out", "outgoing")] {
        for (family, of) in [("packets", "packets"), ("bytes", "bytes")] {
            let servers = sum(&samples, &format!("lvs_server_{family}_total"), &format!("\"{way}\""));
            // What each server has is told two seconds late, as by IPVS.
            let total = samples[&format!("node_ipvs_{total}_{of}_total")];
            assert!(servers <= total, "{servers} {way} of {total}");
        }
    }
    let settled = format!("lvs_server_packets_total{{direction=\"out\",{WEB}}}");
    let samples = watched.samples_when(&settled, 7.0);
    assert_eq!(
        sum(&samples, "lvs_server_packets_total", "\"in\""),
        samples["node_ipvs_incoming_packets_total"]
    );
    assert_eq!(sum(&samples, "lvs_server_bytes_total", "\"in\""), samples["node_ipvs_incoming_bytes_total"]);
    assert_eq!(sum(&samples, "lvs_packets_sent_total", "\"server\""), 7.0);
    let samples =
        watched.samples_when("lvs_interface_frames_total{direction=\"in\",interface=\"eth0\"}", 8.0);
    assert_eq!(samples["lvs_interface_up{interface=\"eth1\"}"], 1.0);
    watched.samples_when("lvs_worker_waiting_seconds_total{worker=\"0\"}", f64::MIN_POSITIVE);
    let part = Part::Machine("rp_filter".to_owned());
    watched.runtime.handle().problems().raise(part, "why");
    watched.samples_when("lvs_problem{part=\"this machine's rp_filter\"}", 1.0);
}

#[test]
fn a_server_that_its_checks_keep_out_is_told_though_listings_leave_it_out() {
    let watched = Watched::new();
    let (web, server) = (ServiceName::tcp(format!("{VIP}:80").parse().unwrap()), format!("{SERVER}:8080"));
    let out = ServerStatus { absent: true, ..ServerStatus::default() };
    let told = watched
        .runtime
        .handle()
        .with_controller(|controller| controller.set_server_status(web, server.parse().unwrap(), out));
    told.unwrap();
    let samples = watched.samples_when(&format!("lvs_server_absent{{{WEB}}}"), 1.0);
    assert_eq!(samples[&format!("lvs_server_absent{{{MARKED}}}")], 0.0);
    assert!(!samples.contains_key(&format!("node_ipvs_backend_weight{{{WEB}}}")), "as in /proc/net/ip_vs");
}

#[test]
fn every_query_of_the_dashboard_names_a_family_that_is_told() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/director/packaging/grafana-dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let watched = Watched::new();
    watched.runtime.handle().problems().raise(Part::Log, "why");
    let told: BTreeSet<String> = watched
        .samples()
        .into_keys()
        .map(|name| name.split('{').next().unwrap_or_default().to_owned())
        .collect();
    let mut asked = BTreeSet::new();
    for target in
        dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array()).flatten()
    {
        let query = target["expr"].as_str().unwrap();
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let families: Vec<_> =
            words.filter(|word| word.starts_with("lvs_") || word.starts_with("node_ipvs_")).collect();
        assert!(!families.is_empty(), "{query}");
        asked.extend(families.into_iter().map(str::to_owned));
    }
    // This director checks no server; examples/director/tests/health looks for it.
    asked.remove("lvs_probe_up");
    assert!(asked.len() > 15, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&told).collect();
    assert_eq!(unknown, Vec::<&String>::new());
}

#[test]
fn the_json_socket_tells_the_same_families() {
    let mut watched = Watched::new();
    watched.client.send(&Segment::syn(40_000).bytes()).unwrap();
    await_frames(&mut watched.server);
    let samples = watched.samples_when("node_ipvs_connections_total", 1.0);
    let stats = watched.runtime.handle().answer(Request::Stats).result;
    let mut told = BTreeMap::new();
    for (name, family) in stats.as_object().unwrap() {
        assert!(["counter", "gauge"].contains(&family["type"].as_str().unwrap()), "{family}");
        for sample in family["samples"].as_array().unwrap() {
            let labels = sample["labels"].as_object().unwrap().iter();
            let labels: Vec<_> = labels.map(|(label, value)| format!("{label}={value}")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            told.insert(format!("{name}{labels}"), sample["value"].as_f64().unwrap());
        }
    }
    assert!(samples.keys().eq(told.keys()), "{samples:#?} {told:#?}");
    assert_eq!(told["node_ipvs_connections_total"], 1.0);
}

#[test]
fn the_page_comes_whole_and_what_it_shows_is_what_the_table_has() {
    let mut watched = Watched::new();
    let (head, page) = watched.ask("GET /");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("default-src 'none'"), "{head}");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    // Nothing from elsewhere: these are names of elements, not addresses.
    let names = page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(page.matches("http").count(), names);
    watched.client.send(&Segment::syn(40_000).bytes()).unwrap();
    await_frames(&mut watched.server);
    watched.runtime.handle().problems().raise(Part::Log, "why");
    watched.samples_when("node_ipvs_connections_total", 1.0);
    let end = Instant::now() + Duration::from_secs(60);
    let overview: OverviewRow = loop {
        let (head, body) = watched.ask("GET /overview.json");
        assert!(head.contains("application/json"), "{head}");
        let overview: OverviewRow = serde_json::from_str(&body).unwrap();
        // An answer is up to a second old.
        if overview.traffic.connections == 1 && !overview.health.problems.is_empty() {
            break overview;
        }
        assert!(Instant::now() < end, "{overview:#?}");
    };
    let services: Vec<_> = overview.services.iter().map(|of| (&*of.service, &*of.scheduler)).collect();
    assert_eq!(services, [("TCP 192.0.2.100:80", "rr"), ("FWM 48879", "wlc")]);
    let server = &overview.services[0].servers[0];
    assert_eq!((server.weight, server.effective_weight, server.draining), (3, Some(3), false));
    assert_eq!((server.active + server.inactive, overview.connections), (1, 1));
    assert_eq!(overview.interfaces.iter().map(|of| &*of.name).collect::<Vec<_>>(), ["eth0", "eth1"]);
    assert!(matches!(overview.events[0].event, ApiEvent::Problem { .. }), "{:?}", overview.events);
}

#[test]
fn other_questions_are_refused_and_slow_clients_lock_nobody_out() {
    let watched = Watched::new();
    assert!(watched.ask("GET /favicon.ico").0.starts_with("HTTP/1.1 404"));
    let (head, _) = watched.ask("POST /metrics");
    assert!(head.starts_with("HTTP/1.1 405") && head.contains("allow: GET, HEAD"), "{head}");
    let (head, body) = watched.ask("HEAD /metrics");
    assert!(head.starts_with("HTTP/1.1 200") && body.is_empty(), "{head}");
    assert!(watched.ask(&format!("GET /{}", "x".repeat(40_000))).0.starts_with("HTTP/1.1 4"));
    // None of them ends its question.
    let idle: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = watched.connect();
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    assert!(watched.ask("GET /metrics").0.starts_with("HTTP/1.1 200"));
    drop(idle);
    let address = watched.metrics.address();
    drop(watched.metrics);
    assert!(TcpStream::connect(address).is_err(), "nobody listens after the end");
}
