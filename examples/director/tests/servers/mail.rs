//! postfix, whose servers deliver into one shared mailbox: small mails, and a large one.

use core::cell::Cell;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Lab, Node};

use crate::daemon::{Daemon, curl};
use crate::site::{Kind, LISTENS, Service, Site};

const KIND: Kind<'_> = Kind {
    name: "mail",
    marks: "",
    services: &[Service { lines: "protocol = \"tcp\"", check: LISTENS, port: Some(25), server_port: 2525 }],
    fill,
    start,
};

/// Whose the mailbox is. Nobody's own number, but one that is not the superuser's.
const OWNER: u32 = 12_525;
const LARGE: usize = 8 << 20;
/// How long a mail may stay in a queue on a busy machine.
const DELIVERED: Duration = Duration::from_secs(60);

pub(crate) fn test(lab: Lab, method: Method, family: Family) -> Outcome {
    let mut site = Site::new(lab, method, family, &KIND)?;
    let sent = Cell::new(0);
    site.survives(&|site| {
        let name = send(site, sent.get(), 1_000)?;
        sent.set(sent.get() + 1);
        Ok(name)
    })?;
    let large = sent.get();
    send(&site, large, LARGE)?;
    // A server that was killed has kept its queue: it delivers what it had accepted when it is back, and perhaps again
    // what it had delivered.
    let end = Instant::now() + DELIVERED;
    loop {
        let mails = delivered(&site.share)?;
        if let Some(mail) = mails.get(&large).filter(|_| mails.len() > large) {
            let lines = mail.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"line ")).count();
            assert_eq!(lines, LARGE / LINE.len(), "the large mail came whole");
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{} mails of {} came", mails.len(), large + 1).into());
        }
        sleep(Duration::from_millis(100));
    }
}

/// The mails in the shared mailbox by their numbers.
fn delivered(share: &Path) -> Outcome<BTreeMap<usize, Vec<u8>>> {
    let mut mails = BTreeMap::new();
    // There is no folder before the first mail.
    for file in fs::read_dir(share.join("inbox/new")).into_iter().flatten() {
        let mail = fs::read(file?.path())?;
        let mut lines = mail.split(|byte| *byte == b'\n');
        let subject = lines.find_map(|line| line.strip_prefix(b"Subject: ")).ok_or("no subject")?;
        mails.insert(core::str::from_utf8(subject)?.trim().parse()?, mail);
    }
    Ok(mails)
}

const LINE: &str = "line of a mail that is 64 characters long, its end is counted \r\n";

/// Hands in a mail; says to whom, by the greeting.
fn send(site: &Site, number: usize, length: usize) -> Outcome<String> {
    let text = format!("Subject: {number}\r\n\r\n{}", LINE.repeat(length / LINE.len()));
    let file = site.share.join("outgoing");
    fs::write(&file, text)?;
    let url = format!("smtp://{}/client.example.test", site.host());
    let file = file.display().to_string();
    let envelope = ["--mail-from", "client@client.example.test", "--mail-rcpt", "inbox@example.test"];
    let output = curl(&site.client, &[&["-v", &url, "--upload-file", &file][..], &envelope].concat())?;
    let talk = String::from_utf8_lossy(&output.stderr);
    let greeting =
        talk.lines().find_map(|line| line.trim_end().strip_prefix("< 220 ")).ok_or("no greeting")?;
    Ok(greeting.split('.').next().unwrap_or_default().to_owned())
}

fn fill(share: &Path) -> Outcome {
    fs::set_permissions(share, Permissions::from_mode(0o777))?;
    let inbox = share.join("inbox");
    fs::create_dir_all(&inbox)?;
    Ok(chown(inbox, Some(OWNER), Some(OWNER))?)
}

fn start(node: &Node, folder: &Path, share: &Path, _: &[IpAddr]) -> Outcome<Daemon> {
    let (own, name) = (folder.display(), node.name());
    for part in ["spool", "data"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::write(
        folder.join("main.cf"),
        format!(
            "compatibility_level = 3.6\nqueue_directory = {own}/spool\ndata_directory = {own}/data\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
             setgid_group = postdrop\ninet_interfaces = all\ninet_protocols = all\nmyhostname = {name}.example.test\n\
             mydestination =\nalias_maps =\nalias_database =\nlocal_recipient_maps =\nmaillog_file = {own}/log\n\
             maillog_file_prefixes = {own}\nsmtpd_banner = {name}.example.test ESMTP\n\
             virtual_mailbox_domains = example.test\nvirtual_mailbox_base = {}\nvirtual_mailbox_maps = static:inbox/\n\
             virtual_uid_maps = static:{OWNER}\nvirtual_gid_maps = static:{OWNER}\nvirtual_mailbox_limit = 0\n\
             message_size_limit = 50000000\nmailbox_size_limit = 0\nsmtpd_relay_restrictions = \
             reject_unauth_destination\nsmtpd_peername_lookup = no\n",
            share.display()
        ),
    )?;
    fs::write(folder.join("master.cf"), MASTER)?;
    let process = std::process::Command::new("chown").arg("postfix").arg(folder.join("data")).status()?;
    if !process.success() {
        return Err("there is no user postfix".into());
    }
    Daemon::start(node, folder, &["postfix", "-c", &own.to_string(), "start-fg"])
}

/// Postfix's services, none of them in a chroot, which would need files of the distribution in it.
const MASTER: &str = "\
smtp inet n - n - - smtpd
2525 inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
";
