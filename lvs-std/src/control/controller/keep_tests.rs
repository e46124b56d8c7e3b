use core::time::Duration;

use lvs_core::config::Capacity;
use lvs_core::{Config, Director, Family, Heap, Seed};
use lvs_forward::host::Host;
use lvs_forward::{Forwarder, Options};

use super::*;
use crate::control::controller::Daemons;
use crate::control::journal::faulty::Faulty;
use crate::control::{DaemonSpec, Local, Query, Role, ServerSpec, ServiceSpec, Timeouts, method};

type One = Controller<Heap, Local<Heap>>;

/// Daemons that run on paper.
struct Paper;

impl Daemons for Paper {
    fn start(&mut self, spec: &DaemonSpec) -> Result<DaemonSpec, Errno> {
        if spec.interface == "eth0" { Ok(spec.clone()) } else { Err(Errno::NoDevice) }
    }

    fn stop(&mut self, _: Role) {}
}

/// A director with room for three services and four servers, and for no large look-up table.
fn controller() -> One {
    let seed = Seed::from_bytes([7; 16]);
    let mut capacity = Capacity::new(8);
    (capacity.services, capacity.servers, capacity.events, capacity.tables) = (3, 4, 1, 1 << 10);
    let director = Director::new(Config::new(seed), Heap::new(capacity));
    let host: Host = Host::new(seed);
    Controller::new(Local::new(director, Box::new(Forwarder::new(host, Options::new()))), Box::new(Paper))
}

fn journal(disk: &Faulty, bytes: Option<Vec<u8>>) -> Journal {
    let path = std::path::Path::new("state");
    Journal::on(path, Box::new(disk.clone()), bytes.as_deref()).unwrap()
}

/// What a controller knows that is to last.
fn state(controller: &One) -> Vec<Vec<Entry>> {
    controller.snapshot().unwrap()
}

/// What the next process has that finds these bytes.
fn restarted(bytes: Option<Vec<u8>>) -> Vec<Vec<Entry>> {
    let mut next = controller();
    next.restore(&mut journal(&Faulty::default(), bytes));
    state(&next)
}

fn name(number: u8) -> ServiceName {
    ServiceName::tcp(([10, 99, 0, number], 80).into())
}

fn server(number: u8) -> SocketAddr {
    ([10, 0, 1, number], 80).into()
}

fn spec(weight: i32) -> ServerSpec {
    ServerSpec::new(method::DIRECT, weight)
}

fn service(scheduler: &str) -> ServiceSpec {
    ServiceSpec::new(Family::V4, scheduler)
}

/// Something that an operator does.
#[derive(Clone, Debug)]
enum Act {
    Do(Command),
    Drain(u8, Option<SystemTime>),
    Undrain(u8),
    /// A reload: what it adds, a setting of its, and its text.
    Reload(Vec<TableCommand>, Option<Setting>, &'static str),
    /// Commands of several clients at the same time.
    Together(Vec<Command>),
}

impl From<TableCommand> for Act {
    fn from(command: TableCommand) -> Self {
        Self::Do(command.into())
    }
}

impl Act {
    fn act(&self, on: &mut One) -> Result<(), CommandError> {
        match self {
            Self::Do(command) => on.submit(command.clone()).map(drop),
            Self::Drain(number, deadline) => on.drain(name(1), server(*number), *deadline),
            Self::Undrain(number) => on.undrain(name(1), server(*number)),
            Self::Reload(commands, setting, text) => {
                let settings = setting.as_slice();
                let reload = Reload { commands, settings, text: Some(Some(text)), ..Reload::default() };
                on.reload(reload).map_err(|(_, error)| error)
            }
            Self::Together(commands) => {
                on.submit_each(commands).into_iter().try_for_each(|done| done.map(drop))
            }
        }
    }
}

/// Each kind of change, those that the director refuses among them.
fn script() -> Vec<Act> {
    let daemon = |interface: &str, role| DaemonSpec {
        role,
        interface: interface.to_owned(),
        sync_id: 9,
        max_len: Some(1_400),
        group: None,
        port: None,
        ttl: None,
    };
    let (old, later) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000));
    let new = |number| TableCommand::NewService(name(number), service("wrr"));
    vec![
        new(1).into(),
        TableCommand::NewServer(name(1), server(1), spec(1)).into(),
        TableCommand::NewServer(name(1), server(2), spec(2)).into(),
        TableCommand::SetService(name(1), service("wlc"), u32::MAX).into(),
        TableCommand::SetServer(name(1), server(2), spec(7)).into(),
        Act::Drain(1, Some(later)),
        Act::Drain(2, Some(old)),
        Act::Undrain(2),
        Act::Do(Setting::Timeouts(Timeouts { tcp: 0, tcp_fin: 77, udp: 0 }).into()),
        Act::Do(Setting::Sysctl("sloppy_tcp".to_owned(), "1".to_owned()).into()),
        Act::Do(DaemonCommand::Start(daemon("eth0", Role::Backup)).into()),
        Act::Do(DaemonCommand::Start(daemon("none", Role::Master)).into()),
        Act::Reload(
            vec![new(2), TableCommand::NewServer(name(2), server(3), spec(1))],
            Some(Setting::Sysctl("drop_entry".to_owned(), "3".to_owned())),
            "a text",
        ),
        // There is a place for one of these, and none for a server of the other one.
        Act::Together(vec![
            new(3).into(),
            new(4).into(),
            TableCommand::NewServer(name(4), server(4), spec(1)).into(),
            TableCommand::NewServer(name(3), server(4), spec(1)).into(),
        ]),
        new(5).into(),
        Act::Reload(vec![TableCommand::DelService(name(1)), new(5), new(6)], None, "refused"),
        Act::Do(DaemonCommand::Stop(Role::Backup).into()),
        TableCommand::DelServer(name(1), server(2)).into(),
        Act::Drain(1, None),
        TableCommand::DelService(name(2)).into(),
        TableCommand::Flush.into(),
        new(7).into(),
    ]
}

#[test]
fn every_command_is_there_again_after_a_kill_and_what_was_refused_is_not() {
    let disk = Faulty::default();
    let mut one = controller();
    assert!(one.keep_journal(journal(&disk, None)).written.is_ok());
    let (mut changed, mut refused) = (0, 0);
    for act in script() {
        let before = state(&one);
        let done = act.act(&mut one);
        let now = state(&one);
        match (&done, &act) {
            (_, Act::Together(_)) => assert_ne!(now, before),
            (Ok(()), _) => {
                assert_ne!(now, before, "{act:?}");
                changed += 1;
            }
            (Err(_), _) => {
                assert_eq!(now, before, "{act:?}");
                refused += 1;
            }
        }
        assert_eq!(restarted(disk.bytes()), now, "{act:?}: {done:?}");
        // And once more from a file that says the same shorter.
        let mut next = controller();
        let short = Faulty::with(&disk.bytes().unwrap());
        assert!(next.keep_journal(journal(&short, short.bytes())).written.is_ok());
        next.rewrite_for_tests();
        assert_eq!(restarted(short.bytes()), now, "{act:?}");
    }
    assert_eq!((changed, refused), (18, 3));
}

#[test]
fn a_question_and_a_reset_of_counters_need_no_disk() {
    let disk = Faulty::default();
    let mut one = controller();
    one.keep_journal(journal(&disk, None)).written.unwrap();
    one.submit(TableCommand::NewService(name(1), service("rr"))).unwrap();
    disk.fail(0, u64::MAX);
    let steps = disk.steps();
    one.submit(Query::Services).unwrap();
    one.submit(Command::Zero(None)).unwrap();
    one.submit(Command::Zero(Some(name(1)))).unwrap();
    assert_eq!(disk.steps(), steps);
}

/// The script while the disk fails for some steps.
fn survives(first: u64, count: u64, durability: Durability) {
    let disk = Faulty::default();
    disk.fail(first, count);
    let mut one = controller();
    let mut journal = journal(&disk, None);
    journal.set_durability(durability);
    journal.set_history(0);
    // The director starts whether it can be written or not.
    let _ = one.keep_journal(journal);
    // A full disk that refuses a sync, and then even to cut a file, leaves it open what the file has.
    let is_certain = durability == Durability::Process || count == 1;
    let mut acts = 0;
    for act in script() {
        let place = format!("{act:?} with steps {first} to {first}+{count} failing, {durability:?}");
        let before = state(&one);
        let done = act.act(&mut one);
        acts += 1;
        let now = state(&one);
        if done.is_err() && !matches!(act, Act::Together(_)) {
            assert_eq!(now, before, "what was refused was not done: {place}");
        }
        // Before the failure it is as in the test without one, and much later too.
        if disk.steps() >= first && disk.steps() < first + 400 {
            if is_certain {
                assert_eq!(restarted(disk.bytes()), now, "{place}");
            }
            if durability == Durability::Power && done.is_ok() {
                assert_eq!(restarted(disk.bytes_after_power_loss()), now, "{place}, without power");
            }
        }
    }
    assert_eq!(acts, script().len());
    disk.fail(0, 0);
    one.submit(Setting::Timeouts(Timeouts { tcp: 0, tcp_fin: 99, udp: 0 })).unwrap();
    assert_eq!(
        restarted(disk.bytes()),
        state(&one),
        "steps {first} to {first}+{count}, {durability:?}, at the end"
    );
}

#[test]
fn what_was_refused_was_not_done_and_what_was_acknowledged_is_kept_wherever_the_disk_fails() {
    for durability in [Durability::Process, Durability::Power] {
        let disk = Faulty::default();
        let mut one = controller();
        let mut fresh = journal(&disk, None);
        fresh.set_durability(durability);
        fresh.set_history(0);
        one.keep_journal(fresh).written.unwrap();
        // Each thing that is not a write of a byte, and of each write the first byte, the last, and one between.
        let mut steps: Vec<u64> = (0..4).collect();
        for act in script() {
            let before = disk.steps();
            let _ = act.act(&mut one);
            let after = disk.steps();
            steps.extend([before, before + 1, u64::midpoint(before, after)]);
            steps.extend(after.saturating_sub(5).max(before)..after);
        }
        steps.sort_unstable();
        steps.dedup();
        for first in steps {
            // Two steps and all of them are less certain with a sync among them, and are tried without.
            let counts = if durability == Durability::Process { &[1, 2, u64::MAX][..] } else { &[1] };
            for count in counts {
                survives(first, *count, durability);
            }
        }
    }
}

#[test]
fn a_director_starts_on_a_disk_that_cannot_be_written_refuses_commands_and_goes_on_when_it_can_be() {
    let disk = Faulty::default();
    disk.fail(0, u64::MAX);
    let mut one = controller();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = told.clone();
    one.watch_journal(move |written| tell.lock().unwrap().push(written.map_err(ToString::to_string)));
    // What a configuration says is there, though it cannot be kept.
    let commands = [TableCommand::NewService(name(1), service("rr"))];
    one.reload(Reload { commands: &commands, text: Some(Some("text")), ..Reload::default() }).unwrap();
    let taken = one.keep_journal(journal(&disk, None));
    assert_eq!(taken.written.unwrap_err().errno(), Errno::NoSpace);
    assert!(one.desired().service(name(1)).is_some());
    let add = TableCommand::NewService(name(2), service("rr"));
    assert_eq!(one.submit(add.clone()), Err(CommandError::Refused(Errno::NoSpace)));
    assert!(one.desired().service(name(2)).is_none());
    disk.fail(0, 0);
    one.submit(add).unwrap();
    assert_eq!(restarted(disk.bytes()), state(&one));
    let told = told.lock().unwrap();
    assert!(told.first().unwrap().is_err() && told.last().unwrap().is_ok(), "{told:?}");
}

#[test]
fn what_cannot_be_done_again_is_said_and_the_file_that_has_it_is_kept() {
    let disk = Faulty::default();
    let mut one = controller();
    one.keep_journal(journal(&disk, None)).written.unwrap();
    for number in 1..4 {
        one.submit(TableCommand::NewService(name(number), service("rr"))).unwrap();
    }
    let before = disk.bytes().unwrap();
    // The next director has no place for one of them.
    let mut next = controller();
    next.submit(TableCommand::NewService(name(9), service("rr"))).unwrap();
    let taken = next.keep_journal(journal(&disk, disk.bytes()));
    assert_eq!(taken.refused.len(), 1);
    assert!(taken.refused[0].0.contains("10.99.0.3"), "{taken:?}");
    assert_eq!(disk.aside(), [before]);
    assert_eq!(restarted(disk.bytes()), state(&next));
}

#[test]
fn many_commands_of_several_clients_are_given_to_the_disk_at_once() {
    let disk = Faulty::default();
    let mut one = controller();
    let mut fresh = journal(&disk, None);
    fresh.set_durability(Durability::Power);
    one.keep_journal(fresh).written.unwrap();
    let commands: Vec<Command> =
        (1..4).map(|number| TableCommand::NewService(name(number), service("rr")).into()).collect();
    let syncs = disk.syncs();
    assert!(one.submit_each(&commands).iter().all(Result::is_ok));
    assert_eq!(disk.syncs(), syncs + 1);
    assert_eq!(restarted(disk.bytes_after_power_loss()), state(&one));
}

#[test]
fn commands_that_go_together_have_the_answers_that_they_would_have_one_by_one() {
    let new = |number, scheduler| TableCommand::NewService(name(number), service(scheduler));
    let add = |number, of| TableCommand::NewServer(name(number), server(of), spec(1));
    let runs = [
        // One that the director refuses would have been in the way of the next one.
        vec![new(1, "mh"), new(1, "rr"), add(1, 1), new(1, "rr"), new(2, "rr"), add(2, 2)],
        // There is room for three, and for a fourth one only when one is gone.
        vec![
            new(1, "rr"),
            new(2, "rr"),
            new(3, "rr"),
            new(4, "rr"),
            new(4, "rr"),
            add(4, 1),
            TableCommand::DelService(name(1)),
            new(4, "rr"),
            add(4, 2),
            TableCommand::DelServer(name(4), server(1)),
        ],
        // What builds on one that is refused is refused too.
        vec![new(1, "rr"), new(2, "mh"), add(2, 1), TableCommand::DelService(name(2)), add(1, 1)],
    ];
    for run in runs {
        let commands: Vec<Command> = run.into_iter().map(Into::into).collect();
        let mut apart = controller();
        let expected: Vec<_> = commands.iter().map(|command| apart.submit(command.clone())).collect();
        assert!(expected.iter().any(Result::is_err), "{commands:?}");
        for durability in [Durability::Process, Durability::Power] {
            let disk = Faulty::default();
            let mut together = controller();
            let mut fresh = journal(&disk, None);
            fresh.set_durability(durability);
            together.keep_journal(fresh).written.unwrap();
            assert_eq!(together.submit_each(&commands), expected, "{commands:?}");
            assert_eq!(state(&together), state(&apart), "{commands:?}");
            assert_eq!(restarted(disk.bytes()), state(&apart), "{commands:?} after a restart");
        }
        // While nothing can be kept, nothing is there that could be in the way.
        let disk = Faulty::default();
        let mut full = controller();
        full.keep_journal(journal(&disk, None)).written.unwrap();
        disk.fail(0, u64::MAX);
        let expected: Vec<_> = commands.iter().map(|command| full.submit(command.clone())).collect();
        assert_eq!(full.submit_each(&commands), expected, "{commands:?} on a full disk");
    }
}
