//! A reload of an assembled director over devices in memory: what it sets is there after a restart, or nothing changes.

use std::path::{Path, PathBuf};

use lvs_core::{Config, Director, Heap, Seed};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Options};
use lvs_std::config::{ConfigSource, Configuration};
use lvs_std::control::{Answer, Query, Setting, Timeouts};
use lvs_std::device::{PairOptions, pair};
use lvs_std::runtime::{Assembly, ReloadError, Runtime, RuntimeGroup, RuntimeHandle, RuntimeOptions};
use lvs_std::steering::{By, Steer};
use lvs_std::worker::{Worker, WorkerOptions};

use crate::world::MACS;

/// Two workers at one link each, with the defaults of every setting: other values come from a reload or a journal.
fn assembly() -> Assembly {
    let seed = Seed::from_bytes([7; 16]);
    let (mut workers, mut handles, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2 {
        let mut host = Host::new(seed);
        host.add_port(Port::ethernet(MacAddress(MACS[0]), 1_500)).unwrap();
        let forwarder = Box::new(Forwarder::new(host, Options::new()));
        let director = Director::new(Config::new(seed), Heap::with_capacity(100));
        let (device, _) = pair(&PairOptions::default()).unwrap();
        let made = Worker::new(director, forwarder, vec![device], WorkerOptions::default()).unwrap();
        workers.push(made.0);
        handles.push(made.1);
        events.push(made.2);
    }
    let group = RuntimeGroup::new(&mut workers, handles, Steer::new(seed, 2, By::Endpoint), vec![]);
    Assembly { workers, group, events, cpus: vec![], interfaces: vec!["eth0".to_owned()], supervisor: None }
}

fn start(source: &ConfigSource, state: &Path) -> Runtime {
    let mut options = RuntimeOptions::default();
    options.state = Some(state.to_owned());
    let owned = options.claims().take().unwrap();
    Runtime::start_with(assembly(), Some(source.clone()), options, owned).unwrap()
}

/// A configuration's text with `more` behind the interface.
fn source(more: &str) -> ConfigSource {
    format!(
        "[director]\nworkers = 2\n[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\"]\n{more}"
    )
    .parse()
    .unwrap()
}

fn switch(director: &RuntimeHandle, name: &str) -> String {
    let asked = director.with_controller(|controller| controller.submit(Query::Sysctl(name.to_owned())));
    let Ok(Answer::Sysctl(value)) = asked else { panic!("{asked:?}") };
    value
}

fn timeouts(director: &RuntimeHandle) -> (u32, u32, u32) {
    let asked = director.with_controller(|controller| controller.submit(Query::Timeouts));
    let Ok(Answer::Timeouts(Timeouts { tcp, tcp_fin, udp })) = asked else { panic!("{asked:?}") };
    (tcp, tcp_fin, udp)
}

/// A folder of the test's own, which is there no more when the test has ended.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("director-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_a_reload_sets_is_there_after_a_restart_and_what_operators_set_stays() {
    let folder = Folder::new("reload");
    let changed = source(
        "[timeouts]\nudp = 60\n[sysctl]\nnet.ipv4.vs.sloppy_tcp = 1\nnet.ipv4.vs.sync_threshold = \"4 60\"\n\
         net.ipv4.icmp_ratelimit = 701\n",
    );
    let expected = |director: &RuntimeHandle| {
        assert_eq!(timeouts(director), (800, 120, 60));
        let names = ["sloppy_tcp", "sync_threshold", "net.ipv4.icmp_ratelimit", "drop_entry", "sloppy_sctp"];
        assert_eq!(names.map(|name| switch(director, name)), ["1", "4\t60", "701", "3", "0"]);
    };
    {
        let runtime = start(&source(""), &folder.state());
        let director = runtime.handle();
        director.set_sysctl("net.ipv4.vs.drop_entry", "3").unwrap();
        let set = Setting::Timeouts(Timeouts { tcp: 800, ..Timeouts::default() });
        director.with_controller(|controller| controller.submit(set)).unwrap();
        let plan = director.reload(changed.clone()).unwrap();
        assert_eq!(plan.did(), "~ time-outs, switches or virtual addresses\n");
        expected(&director);
        let each = director.group().with_each(|_, director, forwarder, _| {
            (
                director.config().tuning.sloppy_tcp,
                director.config().timeouts.udp,
                forwarder.options().icmp_rate,
            )
        });
        assert_eq!(each, Ok(vec![(true, 60, 351); 2]), "each worker has it");
    }
    // The workers are made with defaults again: all of it comes from the journal.
    let runtime = start(&changed, &folder.state());
    expected(&runtime.handle());
}

#[test]
fn a_reload_with_a_setting_that_no_command_takes_changes_nothing() {
    let folder = Folder::new("refused");
    let runtime = start(&source(""), &folder.state());
    let director = runtime.handle();
    let new = source(
        "[timeouts]\nudp = 60\n[sysctl]\nnet.ipv4.vs.sloppy_tcp = 1\n[[service]]\nprotocol = \"tcp\"\n\
         address = \"10.0.1.100\"\nport = 80\nscheduler = \"rr\"\n",
    );
    let kept = std::fs::read(folder.state()).unwrap();
    let refused = |change: fn(&mut Configuration)| {
        let mut configuration = new.configuration.clone();
        change(&mut configuration);
        let Err(ReloadError::Setting(error)) = director.reload(configuration) else { panic!("it was taken") };
        assert!(director.services().is_empty());
        assert_eq!((timeouts(&director), switch(&director, "sloppy_tcp").as_str()), ((900, 120, 300), "0"));
        assert_eq!(std::fs::read(folder.state()).unwrap(), kept);
        error.to_string()
    };
    let threshold = refused(|new| (new.tuning.sync_threshold, new.tuning.sync_period) = (60, 4));
    assert_eq!(threshold, "net.ipv4.vs.sync_threshold cannot be `60\t4`");
    assert_eq!(refused(|new| new.tuning.sync_retries = 9), "net.ipv4.vs.sync_retries cannot be `9`");
    assert_eq!(refused(|new| new.timeouts.udp = 0), "timeouts.udp cannot be `0`");
    assert_eq!(refused(|new| new.timeouts.tcp_fin = u32::MAX), "timeouts.tcp-fin cannot be `4294967295`");
    director.reload(new).unwrap();
    assert_eq!((director.services().len(), timeouts(&director)), (1, (900, 120, 60)));
}
