//! The cluster of the tutorials: DR, `wrr`, weight 3, persistence 50, `TCP_CHECK`, by its `keepalived.conf`, under
//! load.

use core::net::SocketAddr;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Cluster, Lab, Plan};

use crate::cell::Cell;
use crate::web::{Browser, Visit, Web, visit};

/// A server is killed under load, and comes back. Nobody but its own clients notices, they only until it is found
/// out, and it gets clients again.
pub(crate) fn failure_under_load(lab: Lab) -> Outcome {
    let cluster = Cluster::new(lab, &Plan::new(Method::Direct).with_servers(2))?;
    cluster.director.add_address("eth0", "10.0.1.253".parse()?, 24)?;
    let cell = Cell::new(&cluster.director, "tutorial")?;
    cell.write("keepalived.conf", CONFIGURATION)?;
    cell.write("director.toml", DIRECTOR)?;
    cell.start_director("--config /run/kw/director.toml")?;
    let mut servers = Vec::new();
    for node in &cluster.servers {
        servers.push(Some(Web::serve(node)?));
    }
    cell.start_keepalived("-C")?;
    cell.wait_for_servers(&[FIRST, SECOND], CHECK)?;
    cell.wait("success", || cell.read("keepalived.log").matches("success").count() == 2)?;

    let began = Instant::now();
    let vip = SocketAddr::new(Cluster::vip(Family::V4), 80);
    let mut browsers = Vec::new();
    for number in 1..=6 {
        let client = lab.node(&format!("client{number}"))?;
        cluster.switches[0].join(&client, "eth0")?;
        client.add_address("eth0", format!("192.0.2.{}", 10 + number).parse()?, 24)?;
        browsers.push(Browser::start(&client, vip)?);
    }
    thread::sleep(Duration::from_secs(2));

    let killed = Instant::now();
    servers[0] = None;
    cell.wait_for_servers(&[SECOND], CHECK + RETRY)?;
    let removed = Instant::now();
    thread::sleep(Duration::from_secs(2));
    servers[0] = Some(Web::serve(&cluster.servers[0])?);
    cell.wait_for_servers(&[FIRST, SECOND], CHECK)?;
    let returned = Instant::now();
    // Those who were there before stay where they are: that is persistence. New clients come to both.
    let mut answers = Vec::new();
    for number in 1..=2 {
        let client = lab.node(&format!("new{number}"))?;
        cluster.switches[0].join(&client, "eth0")?;
        client.add_address("eth0", format!("192.0.2.{}", 20 + number).parse()?, 24)?;
        answers.push(client.run(|| visit(vip))??);
    }
    answers.sort();
    assert_eq!(answers, ["rs1", "rs2"], "two new clients after it has returned");
    println!(
        "a killed server was out after {:.1} s, and in again {:.1} s after that",
        (removed - killed).as_secs_f64(),
        (returned - removed).as_secs_f64()
    );

    let (mut victims, mut visits) = (0, 0);
    for browser in browsers {
        let (all, stays) = (browser.visits(), browser.stays());
        visits += all.len();
        // What was not answered by this server, in seconds from the killing.
        let others = |visits: &[Visit], from: Option<Instant>, server: &str| -> Vec<String> {
            let of_interest = visits.iter().filter(|visit| from.is_none_or(|from| visit.at > from));
            let others = of_interest.filter(|visit| visit.answer.as_deref() != Ok(server));
            let seconds = |at: Instant| (at - began).as_secs_f64() - (killed - began).as_secs_f64();
            others.map(|visit| format!("{:.3} s: {:?}", seconds(visit.at), visit.answer)).collect()
        };
        let none: [String; 0] = [];
        let (calm, _) = all.split_at(all.partition_point(|visit| visit.at < killed - UNDER_WAY));
        let home = calm.first().and_then(|visit| visit.answer.clone().ok()).ok_or("no first answer")?;
        assert_eq!(others(calm, None, &home), none, "persistence");
        assert_eq!(stays[0].answer.as_ref(), Ok(&home), "persistence holds for all connections of a client");
        if home == "rs1" {
            victims += 1;
            assert!(all.last().is_some_and(|visit| visit.at > removed + UNDER_WAY));
            assert_eq!(others(&all, Some(removed + UNDER_WAY), "rs2"), none, "after the server was out");
        } else {
            assert_eq!(others(&all, None, "rs2"), none, "a client of the other server");
            assert_eq!(others(&stays, None, "rs2"), none, "a connection to the other server");
            assert!(stays.last().is_some_and(|visit| visit.at > removed), "the connection stayed to the end");
        }
    }
    assert_eq!(victims, 3, "equal weights share six clients equally");
    assert!(visits > 200, "{visits}");
    cell.tell("kill -TERM $keepalived; wait $keepalived; touch /run/kw/ended")?;
    cell.wait("end of keepalived", || cell.path("ended").exists())?;
    assert!(cell.client()?.table()?.is_empty(), "keepalived takes away what it made");
    Ok(())
}

const FIRST: &str = "10.0.1.11:80";
const SECOND: &str = "10.0.1.12:80";
/// The interval of the checks.
const CHECK: Duration = Duration::from_secs(6);
/// How long a request may have been under way.
const UNDER_WAY: Duration = Duration::from_millis(200);
/// What a second try takes.
const RETRY: Duration = Duration::from_secs(3);

/// The file as it stands in many tutorials, but for its addresses.
const CONFIGURATION: &str = "\
global_defs { router_id LVS_DEVEL }
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    authentication { auth_type PASS
                     auth_pass 1111 }
    virtual_ipaddress { 192.0.2.100 }
}
virtual_server 192.0.2.100 80 {
    delay_loop 6
    lb_algo wrr
    lb_kind DR
    persistence_timeout 50
    protocol TCP
    real_server 10.0.1.11 80 {
        weight 3
        TCP_CHECK {
            connect_timeout 10
            nb_get_retry 3
            delay_before_retry 3
            connect_port 80
        }
    }
    real_server 10.0.1.12 80 {
        weight 3
        TCP_CHECK {
            connect_timeout 10
            nb_get_retry 3
            delay_before_retry 3
            connect_port 80
        }
    }
}
";

const DIRECTOR: &str = "\
virtual-addresses = [\"192.0.2.100\"]
[[interface]]
name = \"eth0\"
addresses = [\"10.0.1.254/24\", \"192.0.2.254/24\"]
";
