//! HTTP by TLS (RFC 8446, RFC 5246).

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::http::{Http, PIECE, PIECES, Talk, send};
use super::tcp::{connect, is_connected};
use super::{Attempt, Checker, Expiry, Pass, Progress};
use crate::health::{Doing, Failure};

/// A target is up when it answers an HTTP request by TLS 1.2 or 1.3. Every attempt is a whole handshake.
#[derive(Clone)]
pub struct Https {
    http: Http,
    trust: Trust,
    sni: Option<String>,
    config: Arc<ClientConfig>,
}

/// Which certificates of a target are good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trust {
    /// Any, also expired ones and those of other names: whether a target answers is the question, not who it is. This
    /// is what keepalived's `SSL_GET` does unless it is given a certificate authority.
    #[default]
    Any,
    /// Certificates that lead to an authority that this system trusts.
    System,
    /// Certificates that lead to an authority in this file of certificates (PEM).
    File(PathBuf),
}

impl Https {
    /// A request by TLS, with ring for a crypto provider. `sni` is the name that the target is asked for and must have
    /// a certificate for: by default that of the request's `Host` field, or the target's address. Files and the
    /// system's authorities are read here, once.
    ///
    /// # Errors
    /// When there is no authority to be trusted, or the name is none.
    pub fn new(http: Http, trust: Trust, sni: Option<&str>) -> Result<Self, BadTls> {
        Self::with_provider(http, trust, sni, Arc::new(ring::default_provider()))
    }

    /// A request by TLS, as [`new`](Self::new) makes it, with another crypto provider: one that a platform prescribes,
    /// or that a program has anyway.
    ///
    /// # Errors
    /// As for [`new`](Self::new), or when the provider has nothing for TLS 1.2 and 1.3.
    pub fn with_provider(
        http: Http,
        trust: Trust,
        sni: Option<&str>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, BadTls> {
        if let Some(sni) = sni {
            ServerName::try_from(sni).map_err(|_| BadTls::Name)?;
        }
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| BadTls::Trust(error.to_string()))?;
        let mut config = match roots(&trust)? {
            Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { http, trust, sni: sni.map(str::to_owned), config: Arc::new(config) })
    }

    /// The request.
    #[must_use]
    pub const fn http(&self) -> &Http {
        &self.http
    }

    /// Which certificates are good.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The name that a target is asked for.
    fn name(&self, target: SocketAddr) -> ServerName<'static> {
        let host = self.http.host().map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
        let name = self.sni.as_deref().or(host);
        name.and_then(|name| ServerName::try_from(name.to_owned()).ok())
            .unwrap_or_else(|| ServerName::IpAddress(target.ip().into()))
    }
}

/// The authorities that are trusted; `None` when nothing is asked.
fn roots(trust: &Trust) -> Result<Option<RootCertStore>, BadTls> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Any => return Ok(None),
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                return Err(BadTls::Trust(format!("this system trusts no authority: {}", errors.join(", "))));
            }
        }
        Trust::File(path) => {
            let bad = |error: &dyn fmt::Display| BadTls::Trust(format!("{}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
                let certificate = certificate.map_err(|error| bad(&error))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
            if roots.is_empty() {
                return Err(bad(&"there is no certificate in it"));
            }
        }
    }
    Ok(Some(roots))
}

impl PartialEq for Https {
    /// The rest of it follows from these.
    fn eq(&self, other: &Self) -> bool {
        (&self.http, &self.trust, &self.sni) == (&other.http, &other.trust, &other.sni)
    }
}

impl Eq for Https {}

impl Hash for Https {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.http, &self.trust, &self.sni).hash(state);
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { http, trust, sni, config: _ } = self;
        f.debug_struct("Https")
            .field("http", http)
            .field("trust", trust)
            .field("sni", sni)
            .finish_non_exhaustive()
    }
}

/// Why a check by TLS cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is given a name and a trust")]
pub enum BadTls {
    /// The name to be asked for is none.
    Name,
    /// Nobody can be trusted, for this reason.
    Trust(String),
}

impl fmt::Display for BadTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("no name of a server: expected one such as www.example.org"),
            Self::Trust(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for BadTls {}

impl Checker for Https {
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
        let mut tls = ClientConnection::new(self.config.clone(), self.name(target))
            .map_err(|error| Failure::Tls(error.to_string()))?;
        let mut talk = Talk::new(&self.http, target, 443);
        // It waits in there until the handshake is over.
        let written = tls.writer().write(talk.to_send()).map_err(|error| Failure::Tls(error.to_string()))?;
        talk.sent(written);
        let socket = connect(target)?;
        Ok(Box::new(Secure { socket, target, connected: false, tls, talk }))
    }
}

/// A talk by TLS.
#[derive(Debug)]
struct Secure {
    socket: OwnedFd,
    target: SocketAddr,
    connected: bool,
    tls: ClientConnection,
    talk: Talk,
}

impl Secure {
    /// `Err` when it is over.
    fn advance(&mut self) -> Result<Progress, Failure> {
        if !self.connected {
            self.connected = is_connected(self.socket.as_fd(), self.target)?;
            if !self.connected {
                return Ok(Progress::Waits);
            }
        }
        for _ in 0..PIECES {
            self.send();
            match self.tls.read_tls(&mut Wire(self.socket.as_fd())) {
                Ok(0) => return self.closed().map(|answer| Progress::Done(Ok(answer))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Waits),
                Err(error) => return Err(failure(&error)),
            }
            let state = self.tls.process_new_packets();
            if let Err(error) = state {
                // The other side is told why.
                self.send();
                return Err(Failure::Tls(error.to_string()));
            }
            if let Some(answer) = self.hear() {
                return Ok(Progress::Done(answer));
            }
        }
        Ok(Progress::Yields)
    }

    /// Sends as much as goes. What cannot be sent any more is noticed as it is read: the answer may be there already.
    fn send(&mut self) {
        while self.tls.wants_write()
            && self.tls.write_tls(&mut Wire(self.socket.as_fd())).is_ok_and(|count| count > 0)
        {}
    }

    /// Hears what has been decrypted.
    fn hear(&mut self) -> Option<Result<Pass, Failure>> {
        let mut room = [0; PIECE];
        loop {
            match self.tls.reader().read(&mut room) {
                // The other side has closed its half in the right way.
                Ok(0) => return Some(self.talk.closed()),
                Ok(count) => {
                    if let Some(answer) = self.talk.heard(room.get(..count).unwrap_or_default()) {
                        return Some(answer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(Failure::Tls(error.to_string()))),
            }
        }
    }

    /// The connection was closed, if not in the right way: many servers do not care.
    fn closed(&mut self) -> Result<Pass, Failure> {
        if self.tls.is_handshaking() {
            return Err(Failure::Closed { doing: Doing::Handshake });
        }
        self.talk.closed()
    }
}

impl Attempt for Secure {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn proceed(&mut self) -> Progress {
        self.advance().unwrap_or_else(|failure| Progress::Done(Err(failure)))
    }

    fn expire(&mut self, after: Duration) -> Expiry {
        let doing = match (self.connected, self.tls.is_handshaking()) {
            (false, _) => Doing::Connecting,
            (true, true) => Doing::Handshake,
            (true, false) => self.talk.doing(),
        };
        Expiry::Ends(Err(Failure::TimedOut { doing, after }))
    }
}

/// A socket as TLS reads and writes it.
struct Wire<'a>(BorrowedFd<'a>);

impl Read for Wire<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::read(self.0, &mut *room))?)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| send(self.0, bytes))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failure(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(number) => Failure::of_socket("read", rustix::io::Errno::from_raw_os_error(number)),
        None => Failure::Tls(error.to_string()),
    }
}

/// Trusts every certificate, if only its owner is there: signatures are checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
