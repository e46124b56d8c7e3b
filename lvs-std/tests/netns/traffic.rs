//! Clients and servers of the tests: TCP exchanges compared by hash, UDP echoes.

use core::hash::Hasher;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU16, Ordering};
use core::time::Duration;
use std::hash::DefaultHasher;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

use lvs_std::lab::{LabError, Node};

/// Starts a TCP server that answers exchanges and says its number, and a UDP server that echoes with its number in
/// front, both on `address`, for the rest of the process.
pub(crate) fn serve(node: &Node, address: SocketAddr, number: u8) -> Result<(), LabError> {
    let listener = node.run(|| TcpListener::bind(address))?.expect("a TCP port of the server is free");
    let socket = node.run(|| UdpSocket::bind(address))?.expect("a UDP port of the server is free");
    node.spawn("tcp", move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, number));
        }
    })?;
    node.spawn("udp", move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer[1..]) {
            buffer[0] = number;
            // An answer that the kernel refuses shows as a timeout of the client.
            drop(socket.send_to(&buffer[..=length], from));
        }
    })?;
    Ok(())
}

/// One connection that sends `up` bytes and asks for `down`; both sides check the other's hash. Returns the number of
/// the server that answered.
pub(crate) fn exchange(client: &Node, to: SocketAddr, up: usize, down: usize) -> io::Result<u8> {
    client.run(|| Session::open(to)?.exchange(up, down)).expect("the client's namespace can be entered")
}

/// An open connection for several exchanges.
pub(crate) struct Session(TcpStream);

impl Session {
    /// Connects; to be called inside the client's namespace.
    pub(crate) fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends and receives at the same time.
    pub(crate) fn exchange(&mut self, up: usize, down: usize) -> io::Result<u8> {
        let stream = &mut self.0;
        let mut head = [0; 16];
        head[..8].copy_from_slice(&(up as u64).to_be_bytes());
        head[8..].copy_from_slice(&(down as u64).to_be_bytes());
        stream.write_all(&head)?;
        let mut sender = stream.try_clone()?;
        let sending = thread::spawn(move || send(&mut sender, up));
        let (number, received) = {
            let mut number = [0];
            stream.read_exact(&mut number)?;
            (number[0], receive(stream, down)?)
        };
        let sent = sending.join().expect("the sending thread does not panic")?;
        let mut theirs = [0; 16];
        stream.read_exact(&mut theirs)?;
        let (got, made) = theirs.split_at(8);
        assert_eq!(got, sent.to_be_bytes(), "server {number} got other bytes than were sent to it");
        assert_eq!(made, received.to_be_bytes(), "other bytes came than server {number} sent");
        Ok(number)
    }
}

impl Session {
    /// The path MTU that the client's kernel uses for this connection.
    pub(crate) fn mtu(&self, to: SocketAddr) -> u32 {
        let mtu = if to.is_ipv4() {
            rustix::net::sockopt::ip_mtu(&self.0)
        } else {
            rustix::net::sockopt::ipv6_mtu(&self.0)
        };
        mtu.expect("the kernel tells a connected socket's MTU")
    }
}

/// Sends a datagram from a port that no other one had, and returns the number of the server that echoed it.
pub(crate) fn echo(client: &Node, to: SocketAddr, length: usize) -> io::Result<u8> {
    client
        .run(|| {
            // A port that the kernel gives may be one that it gave before, and so the same connection's. It gives none
            // below 32,768.
            static NEXT: AtomicU16 = AtomicU16::new(0);
            let port = 10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000;
            let any: SocketAddr = if to.is_ipv4() { ([0; 4], port).into() } else { ([0; 16], port).into() };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE / TRIES))?;
            let data = pattern(length);
            let mut buffer = vec![0; 65_536];
            // A datagram may be lost where a ring runs full because its reader has no processor for a while: nobody but
            // its sender repeats it.
            let mut tries = 1..=TRIES;
            let (got, from) = loop {
                let is_last = tries.next() == Some(TRIES);
                socket.send_to(&data, to)?;
                match socket.recv_from(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_last => {}
                    answer => break answer?,
                }
            };
            assert_eq!(from, to, "the answer comes from where the question went");
            assert_eq!(&buffer[1..got], &data, "the echo is what was sent");
            Ok(buffer[0])
        })
        .expect("the client's namespace can be entered")
}

fn answer(mut stream: TcpStream, number: u8) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let (up, down) = head.split_at(8);
        let up = u64::from_be_bytes(up.try_into().expect("8 bytes")) as usize;
        let down = u64::from_be_bytes(down.try_into().expect("8 bytes")) as usize;
        stream.write_all(&[number])?;
        let mut sender = stream.try_clone()?;
        let sending = thread::spawn(move || send(&mut sender, down));
        let got = receive(&mut stream, up)?;
        let made = sending.join().expect("the sending thread does not panic")?;
        stream.write_all(&got.to_be_bytes())?;
        stream.write_all(&made.to_be_bytes())?;
    }
}

/// Sends `length` bytes and returns their hash.
fn send(stream: &mut TcpStream, length: usize) -> io::Result<u64> {
    let data = pattern(length);
    stream.write_all(&data)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&data);
    Ok(hasher.finish())
}

/// Receives `length` bytes and returns their hash.
fn receive(stream: &mut TcpStream, length: usize) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 65_536];
    let mut left = length;
    while left > 0 {
        let part = buffer.len().min(left);
        let got = stream.read(&mut buffer[..part])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.write(&buffer[..got]);
        left -= got;
    }
    Ok(hasher.finish())
}

/// Bytes without a period that a segment's length could hide.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let mut data = Vec::with_capacity(length + 8);
    while data.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(length);
    data
}

/// How long a step may take before the test fails: several retransmissions of TCP.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often a datagram is sent in that time, until it is answered.
const TRIES: u32 = 30;
