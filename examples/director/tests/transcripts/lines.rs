//! Command lines as a hasty person types them: most are nearly right.

/// A stream of numbers from a seed (SplitMix64).
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % count as u64) as usize
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// A script of so many calls of ipvsadm, each with what it says and its status, and listings in between.
pub(crate) fn script(seed: u64, calls: usize) -> String {
    let mut dice = Dice(seed);
    let mut text = String::new();
    for number in 0..calls {
        let (line, command) = match number % 16 {
            7 | 15 => with(dice.of(LISTINGS).to_owned()),
            11 => restore(&mut dice),
            12 => with_tool(dice.of(TOOLS)),
            _ => with(call(&mut dice)),
        };
        // Whoever reads a difference wants to know by which line it came.
        text.push_str(&format!("echo '== {line}'; {command} 2>&1; echo \"status $?\"\n"));
    }
    text
}

/// What is shown of a call, and the call.
fn with(line: String) -> (String, String) {
    let command = format!("ipvsadm {line}");
    (line, command)
}

fn with_tool(command: &str) -> (String, String) {
    (command.to_owned(), format!("{command} </dev/null"))
}

/// Lines for `-R` or `ipvsadm-restore`.
fn restore(dice: &mut Dice) -> (String, String) {
    let mut lines = Vec::new();
    for _ in 0..1 + dice.below(5) {
        let line = if dice.below(4) == 0 { dice.of(IN_FILES).to_owned() } else { call(dice) };
        lines.push(format!("{}{line}", dice.of(&["", "", "ipvsadm ", "  "])));
    }
    let tool = dice.of(&["ipvsadm -R", "ipvsadm --restore", "ipvsadm-restore"]);
    let words: Vec<String> = lines.iter().map(|line| format!("'{line}'")).collect();
    (format!("{tool}: {}", lines.join("; ")), format!("printf \"%s\\n\" {} | {tool}", words.join(" ")))
}

fn call(dice: &mut Dice) -> String {
    let verb = dice.of(VERBS);
    let service = match dice.below(12) {
        0 => String::new(),
        1 => pair(dice, SERVICES, ODD_ADDRESSES),
        _ => dice.of(USUAL).to_owned(),
    };
    let mut options = Vec::new();
    if matches!(verb, "-a" | "-e" | "-d" | "--add-server" | "--edit-server" | "--delete-server")
        && dice.below(12) > 0
    {
        let pool = if dice.below(6) == 0 { ODD_ADDRESSES } else { SERVERS };
        options.push(pair(dice, &["-r", "--real-server"], pool));
    }
    let fitting = match verb {
        "-A" | "-E" | "--add-service" | "--edit-service" => OF_SERVICES,
        "-a" | "-e" | "--add-server" | "--edit-server" => OF_SERVERS,
        "-L" | "-l" | "--list" | "-Ln" => OF_LISTS,
        "--start-daemon" | "--stop-daemon" => OF_DAEMONS,
        _ => &[],
    };
    for _ in 0..dice.below(4) {
        let pool = match dice.below(15) {
            0 => [OF_SERVICES, OF_SERVERS, OF_LISTS, OF_DAEMONS][dice.below(4)],
            _ if fitting.is_empty() => continue,
            _ => fitting,
        };
        let (names, values) = pool[dice.below(pool.len())];
        options.push(pair(dice, names, values));
    }
    let mut words = vec![verb.to_owned()];
    match verb {
        "--set" => {
            let count = if dice.below(5) == 0 { dice.below(5) } else { 3 };
            words.extend((0..count).map(|_| dice.of(TIMES).to_owned()));
        }
        "--start-daemon" | "--stop-daemon" => words.push(dice.of(ROLES).to_owned()),
        _ => {}
    }
    let needless = [
        "-C",
        "--clear",
        "-L",
        "-l",
        "-Ln",
        "--list",
        "-S",
        "--save",
        "--set",
        "-Z",
        "--start-daemon",
        "--stop-daemon",
        "-v",
    ];
    if !needless.contains(&verb) || dice.below(8) == 0 {
        options.insert(if dice.below(3) == 0 { options.len() } else { 0 }, service);
    }
    if dice.below(20) == 0 {
        options.push(dice.of(STRAY).to_owned());
    }
    words.extend(options);
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// An option with a value, written in one of the ways in which one may.
fn pair(dice: &mut Dice, names: &[&str], values: &[&str]) -> String {
    let (name, value) = (dice.of(names), if values.is_empty() { "" } else { dice.of(values) });
    let stick = if name.starts_with("--") { "=" } else { "" };
    match dice.below(4) {
        _ if value.is_empty() => name.to_owned(),
        0 => format!("{name}{stick}{value}"),
        _ => format!("{name} {value}"),
    }
}

type Options = &'static [(&'static [&'static str], &'static [&'static str])];

const VERBS: &[&str] = &[
    "-A",
    "-A",
    "-A",
    "-A",
    "--add-service",
    "-E",
    "-E",
    "--edit-service",
    "-D",
    "--delete-service",
    "-a",
    "-a",
    "-a",
    "-a",
    "-a",
    "--add-server",
    "-e",
    "-e",
    "--edit-server",
    "-d",
    "--delete-server",
    "-L",
    "-l",
    "--list",
    "-Ln",
    "-S",
    "--save",
    "-Z",
    "--zero",
    "--set",
    "--start-daemon",
    "--stop-daemon",
    "-v",
    "-C",
];
const USUAL: &[&str] = &[
    "-t 10.99.0.1:80",
    "-t 10.99.0.1:80",
    "-t vip.example:http",
    "-u 10.99.0.1:53",
    "-u 10.99.0.1:53",
    "-t 10.99.0.9",
    "-f 7",
    "-f 7 -6",
    "-f 3",
    "-t [2001:db8:99::1]:80",
    "-t [2001:db8:99::1]:80",
    "--sctp-service 10.99.0.3:9000",
    "-t 200.1.2.3:443",
    "-u [fe80::1]:domain",
    "-f 4294967295",
    "-t 2001:db8::5",
    "-f 7",
    "-t [2001:db8:99::8000:0]:80",
    "-t [2001:db8:99::1:0:1]:80",
    "-t [2001:db8:99:0:9000::1]:80",
    "-t [2001:db8:99:0:1::2]:80",
    "-u [a000::1]:80",
    "-t 100.1.2.3:443",
    "-t 10.1.2.3:443",
    "-u 10.99.0.1:53 -p -s rr",
];
const SERVICES: &[&str] =
    &["-t", "-u", "-f", "--tcp-service", "--udp-service", "--sctp-service", "--fwmark-service", "-6"];
const ODD_ADDRESSES: &[&str] = &[
    "10.99.0.1",
    "10.99.0.1:",
    ":80",
    "10.99:80",
    "0x0a630001:80",
    "012.99.0.1:80",
    "12345",
    "1.2.3.4.5:80",
    "256.1.1.1:80",
    "10.99.0.1:65535",
    "10.99.0.1:65536",
    "10.99.0.1:0",
    "10.99.0.1:+80",
    "10.99.0.1:080",
    "10.99.0.1:-1",
    "10.99.0.1:http",
    "10.99.0.1:HTTP",
    "10.99.0.1:domain",
    "10.99.0.1:nosuch",
    "vip.example",
    "rs1.example:8080",
    "no.such.example:80",
    "localhost:80",
    "[2001:db8::1]",
    "[2001:db8::1]:http",
    "[2001:zz::1]:80",
    "2001:db8::1",
    "::",
    "[::]:80",
    "[::1]:80",
    "[fe80::1]:80",
    "[ff02::1]:80",
    "[::ffff:10.1.2.3]:80",
    "0.0.0.0:80",
    "127.0.0.1",
    "224.0.0.1:80",
    "240.0.0.1",
    "255.255.255.255",
    "10.0.0.255:80",
    "10.0.1.254:80",
    "0",
    "1",
    "4294967295",
    "4294967296",
    "-1",
    "0x10",
    "7",
    "1e3",
    "80:10.0.0.1",
    "10.99.0.1:80:80",
    "[]:80",
];
const SERVERS: &[&str] = &[
    "10.0.1.11",
    "10.0.1.11",
    "10.0.1.12:8080",
    "10.0.1.12:8080",
    "rs1.example:http",
    "200.0.1.11",
    "[2001:db8:1::11]:80",
    "[2001:db8:1::12]:8080",
    "[2001:db8:1::11]:80",
    "fd00::1",
    "10.0.1.13:0",
    "100.0.1.11",
    "[fd00::8000:1]:80",
    "[fd00::9000:0:1]:80",
    "[2001:db8:1::ffff:1]:80",
];
const OF_SERVICES: Options = &[
    (
        &["-s", "--scheduler"],
        &[
            "rr",
            "wrr",
            "lc",
            "wlc",
            "sh",
            "mh",
            "dh",
            "fo",
            "ovf",
            "sed",
            "nq",
            "lblc",
            "lblcr",
            "bogus",
            "RR",
            "averyveryverylongname",
            "none",
        ],
    ),
    (&["-p", "--persistent"], &["", "", "60", "0", "2678400", "2678401", "abc", "007", "+5"]),
    (
        &["-M", "--netmask"],
        &[
            "255.255.255.0",
            "0.0.0.0",
            "24",
            "64",
            "128",
            "129",
            "0",
            "300.1.1.1",
            "255.0.255.0",
            "vip.example",
            "2001:db8::",
        ],
    ),
    (&["--pe"], &["sip", "bogus", "none"]),
    (&["-o", "--ops"], &[]),
    (
        &["-b", "--sched-flags"],
        &[
            "flag-1",
            "flag-2,flag-3",
            "flag-3",
            "sh-fallback",
            "sh-port,sh-fallback",
            "mh-port",
            "bogus",
            "flag-1,flag-1",
            "flag-1,",
            ",flag-2,,flag-3",
        ],
    ),
];
const OF_SERVERS: Options = &[
    (&["-g", "--gatewaying", "-i", "--ipip", "-m", "--masquerading", "-i", "-m"], &[]),
    (
        &["-w", "--weight"],
        &["0", "1", "5", "65536", "2147483647", "2147483648", "-1", "abc", "+5", "007", "1.5", "0x10"],
    ),
    (&["-x", "--u-threshold"], &["0", "10", "100", "2147483647", "2147483648", "abc"]),
    (&["-y", "--l-threshold"], &["0", "5", "50", "2147483647", "2147483648", "abc"]),
    (&["--tun-type"], &["ipip", "gue", "gre", "vxlan"]),
    (&["--tun-port"], &["6080", "0", "65535", "65536", "abc"]),
    (&["--tun-nocsum", "--tun-csum", "--tun-remcsum"], &[]),
    (
        &[
            "-i --tun-type gue --tun-port 6080",
            "-i --tun-type gre",
            "-i --tun-type gue --tun-port 6080 --tun-remcsum",
        ],
        &[],
    ),
];
const OF_LISTS: Options = &[
    (&["-n", "--numeric", "-n"], &[]),
    (&["-c", "--connection"], &[]),
    (&["--timeout"], &[]),
    (&["--daemon"], &[]),
    (&["--stats", "--rate"], &[]),
    (&["--thresholds"], &[]),
    (&["--persistent-conn"], &[]),
    (&["--tun-info"], &[]),
    (&["--exact", "-X"], &[]),
    (&["--sort", "--nosort"], &[]),
];
const OF_DAEMONS: Options = &[
    (&["--mcast-interface"], &["eth0", "eth1", "eth9", "averyveryverylonginterface"]),
    (&["--syncid"], &["0", "5", "255", "256", "abc"]),
    (&["--mcast-group"], &["224.0.1.1", "ff02::51", "10.0.0.1", "2001:db8::1", "abc"]),
    (&["--mcast-port"], &["9000", "0", "65536"]),
    (&["--mcast-ttl"], &["3", "0", "256"]),
    (&["--sync-maxlen"], &["1000", "0", "65507", "65508"]),
];
const LISTINGS: &[&str] = &[
    "-Ln",
    "-L",
    "-Ln --tun-info",
    "-Ln --thresholds",
    "-Sn",
    "-S",
    "-L --timeout",
    "-L --daemon",
    "-Ln --stats",
    "-Ln --persistent-conn",
    "-Ln --rate -X",
    "-Lc",
    "-l --nosort",
    "-Lnc --persistent-conn",
];
const TIMES: &[&str] = &["0", "100", "2678400", "2678401", "abc", "-1", "+7"];
const IN_FILES: &[&str] =
    &["", "   ", "# a comment", " # a comment", "-R", "ipvsadm", "-L -n", "-Sn", "-v", "foo"];
const TOOLS: &[&str] = &[
    "ipvsadm-save",
    "ipvsadm-save -n",
    "ipvsadm-restore",
    "ipvsadm-restore -n",
    "ipvsadm-restore foo",
    "ipvsadm -R",
    "ipvsadm-save foo",
    "ipvsadm",
];
const ROLES: &[&str] = &["master", "backup", "both", ""];
const STRAY: &[&str] = &[
    "foo",
    "-",
    "--",
    "-- foo",
    "-q",
    "--bogus",
    "-n",
    "-A",
    "--list",
    "-tn",
    "-",
    "-R",
    "--add-serv",
    "=",
    "-w",
    "--weight",
    "-h4",
];
