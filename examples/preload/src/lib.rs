//! A library for `LD_PRELOAD`: whoever configures IPVS through it, configures a director instead of the kernel.
//!
//! Cargo names the file `libipvs_preload.so`. `director exec -- COMMAND` finds it and sets it up; by hand it is
//!
//! ```text
//! LD_PRELOAD=/path/to/libipvs_preload.so LVS_DIRECTOR=default ipvsadm -Ln
//! LD_PRELOAD=/path/to/libipvs_preload.so LVS_DIRECTOR=default keepalived -n -f /etc/keepalived/keepalived.conf
//! ```
//!
//! `LVS_DIRECTOR` is a director's name, whose socket is `/run/director/NAME.sock`, or the path of a socket if there is
//! a slash in it; without it the name is `default`.
//!
//! # What changes in a program
//!
//! * It asks on a generic netlink socket for the family `IPVS`: from then on that descriptor is a connection to the
//!   director, which speaks the same messages. Other families stay with the kernel.
//! * It opens, tests, resolves or looks at `/proc/net/ip_vs*` or `/proc/sys/net/ipv4/vs/*`: it gets the director's text
//!   in a file in memory. What is written to a switch goes to the director.
//! * It sets or gets the socket options of the old interface (level 0, 1152 to 1167): `ENOPROTOOPT`, so that without a
//!   director nobody configures the kernel's IPVS by mistake.
//! * It executes `modprobe` for `ip_vs`: `ENOENT`.
//!
//! All else goes on to the next definition of the function, after one look into a table. Nothing happens when the
//! library is loaded, nothing is printed, and no lock is held while anything is sent.
//!
//! # When the director goes away
//!
//! keepalived opens its connection once and never again, and adds nothing anew. So a request for which the director has
//! gone away is sent again on a new connection under the same descriptor, also when it went between the request and its
//! answer. For the director to come back, a request waits 5 s; then it fails, and requests after it try only once until
//! one succeeds. Descriptors that do not block never wait. A request that had been carried out before the director went
//! answers as a second one does (`EEXIST`, `ENOENT`): the director says what is true.
//!
//! The first connection waits 1 s. Without a director the kernel answers that there is no such family.
//!
//! # Limits
//!
//! Programs that make system calls without the C library (such as those in Go) are not reached, nor are those that gain
//! privileges as they start. A process has at most 32 of these sockets at a time, with descriptors below 4096.

mod ffi;
mod files;
mod message;
mod place;
mod relay;
mod table;
mod value;
