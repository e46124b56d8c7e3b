//! `-h`, in our words.

use lvs_core::Scheduler;

/// What `-v` prints: the release that this is equal to.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";

/// What `-h` prints. `program` is the name by which it was called.
#[must_use]
pub fn help(program: &str) -> String {
    let text = TEXT.replace("PROGRAM", program).replace("SCHEDULERS", &Scheduler::NAMES.join(" "));
    format!("{VERSION}\n{text}")
}

const TEXT: &str = "\
Tells a director what it balances, and shows it.

PROGRAM COMMAND [OPTIONS]     without a command: --list

Commands for services (SERVICE is -t, -u, --sctp-service or -f)
  -A  --add-service SERVICE     add one           [-s] [-p [-M] [--pe]] [-o] [-b]
  -E  --edit-service SERVICE    change one; what is not given goes back to its default
  -D  --delete-service SERVICE  remove one with its real servers
  -C  --clear                   remove all
  -Z  --zero [SERVICE]          counters back to 0, of one service or of all
Commands for real servers
  -a  --add-server SERVICE -r SERVER     add one  [-g|-i|-m] [-w] [-x] [-y] [--tun-..]
  -e  --edit-server SERVICE -r SERVER    change one; what is not given goes back to its default
  -d  --delete-server SERVICE -r SERVER  remove one
Commands that show
  -L  -l  --list [SERVICE]      services and real servers
  -S  --save [-n]               the same as lines for --restore
  -h  --help                    this text
Other commands
  -R  --restore                 carry out the lines of standard input
      --set TCP FIN UDP         idle time-outs in seconds; 0 keeps what is set
      --start-daemon ROLE       synchronise connections with other directors, as master or backup
      --stop-daemon ROLE        no longer

Service: HOST[:PORT], [IPV6]:PORT, names or numbers
  -t  --tcp-service ADDRESS     TCP
  -u  --udp-service ADDRESS     UDP
      --sctp-service ADDRESS    SCTP
  -f  --fwmark-service MARK     packets with this firewall mark, 1 or more
  -6  --ipv6                    .. of IPv6; after -f
  -s  --scheduler NAME          SCHEDULERS; default wlc
  -p  --persistent [SECONDS]    a client stays with its server; default 360
  -M  --netmask MASK            .. and so does its network: a mask of IPv4, a prefix length of IPv6
      --pe NAME                 .. by what the payload says: sip
  -o  --ops                     UDP: every datagram is a connection
  -b  --sched-flags FLAGS       flags of the scheduler, by commas: flag-1 flag-2 flag-3,
                                sh-fallback sh-port, mh-fallback mh-port
Real server
  -r  --real-server ADDRESS     HOST[:PORT]
  -g  --gatewaying              direct routing (default)
  -i  --ipip                    tunnelling
  -m  --masquerading            network address translation
  -w  --weight NUMBER           its share; default 1, 0 for no new connections
  -x  --u-threshold NUMBER      connections from which on it gets no more
  -y  --l-threshold NUMBER      .. and below which it gets some again
      --tun-type TYPE           ipip (default), gue or gre
      --tun-port PORT           of gue
      --tun-nocsum  --tun-csum  --tun-remcsum
                                without, with, with remote checksum
Listing
  -n  --numeric                 addresses and ports as numbers
  -c  --connection              connections instead
      --timeout                 what --set set instead
      --daemon                  running daemons instead
      --stats  --rate           traffic; traffic per second
      --thresholds              what -x and -y set
      --persistent-conn         connections by persistence; with -c what engines know
      --tun-info                kinds of tunnels
  -X  --exact                   long numbers as they are
      --nosort                  in the director's own order
      --sort                    nothing; for old scripts
Daemon
      --syncid NUMBER           0 to 255; default 0
      --sync-maxlen BYTES       longest message; default by the MTU
      --mcast-interface NAME    default eth0
      --mcast-group ADDRESS     default 224.0.0.81
      --mcast-port PORT         default 8848
      --mcast-ttl NUMBER        default 1
";

#[cfg(test)]
mod tests {
    use super::super::options::{Meaning, SCHEDULER_FLAGS, SPELLINGS, Verb};
    use super::*;

    #[test]
    fn the_help_names_every_option() {
        let text = help("lvsadm");
        let words: Vec<&str> = text.split_whitespace().collect();
        for spelling in SPELLINGS.iter().filter(|spelling| spelling.meaning != Meaning::Verb(Verb::Version)) {
            assert!(words.contains(&format!("--{}", spelling.long).as_str()), "{spelling:?}");
            if let Some(short) = spelling.short {
                assert!(words.contains(&format!("-{short}").as_str()), "{spelling:?}");
            }
        }
        for name in Scheduler::NAMES.iter().copied().chain(SCHEDULER_FLAGS.iter().map(|flag| flag.name)) {
            assert!(words.iter().any(|word| word.trim_end_matches([',', ';']) == name), "{name}: {text}");
        }
        assert!(text.contains("\nlvsadm COMMAND"), "{text}");
    }
}
