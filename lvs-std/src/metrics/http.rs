//! The metrics, and a page for people, at an HTTP address.
//!
//! One thread answers. A client that is slow, endless or hostile costs its own connection and nothing else: heads,
//! times and connections are bounded, and what many ask for at once is gathered once.

use core::convert::Infallible;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::{Watched, text};

/// An address at which metrics are going to be asked for.
#[derive(Debug)]
pub struct MetricsListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// Answers at an address. Stops when it is dropped.
pub struct MetricsServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsListener {
    /// Listens at an address, in the network namespace of this thread. Whoever connects waits until there is a director
    /// to tell of. Port 0 is any free one.
    ///
    /// # Errors
    /// When the address is not this machine's, or taken.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with the numbers of a director from now on. `GET /metrics` is for Prometheus, `GET /` a page for people
    /// that shows them and changes nothing, and `GET /overview.json` what the page shows, an
    /// [`OverviewRow`](crate::control::api::OverviewRow).
    ///
    /// # Errors
    /// When no thread or descriptor is left.
    pub fn serve(self, of: impl Watched + 'static) -> io::Result<MetricsServer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let source =
            Arc::new(Source { of: Box::new(of), metrics: Latest::default(), overview: Latest::default() });
        let Self { listener, address } = self;
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            let ended = runtime.block_on(accept(listener, &source, stopped));
            if let Err(error) = ended {
                tracing::error!("metrics at {address} are not answered: {error}");
            }
            // What is being gathered may wait for a worker that is ending.
            runtime.shutdown_background();
        })?;
        Ok(MetricsServer { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl MetricsServer {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for MetricsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported already.
            let _ = thread.join();
        }
    }
}

/// What is told, and what was made of it last.
struct Source {
    of: Box<dyn Watched>,
    metrics: Latest,
    overview: Latest,
}

impl Source {
    /// Prometheus's text. `None` when the director ends.
    fn metrics(&self) -> Option<Bytes> {
        self.metrics.get(|| Some(text(&self.of.overview().ok()?).into()))
    }

    /// What the page shows. `None` when the director ends.
    fn overview(&self) -> Option<Bytes> {
        self.overview.get(|| Some(serde_json::to_vec(&self.of.overview().ok()?.row()).ok()?.into()))
    }
}

/// An answer, at most a second old.
#[derive(Default)]
struct Latest(Mutex<Option<(Instant, Bytes)>>);

impl Latest {
    fn get(&self, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        // Whoever comes meanwhile waits here, and finds it made.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, text)) = &*latest
            && made.elapsed() < FRESH
        {
            return Some(text.clone());
        }
        let made = make()?;
        *latest = Some((Instant::now(), made.clone()));
        Some(made)
    }
}

async fn accept(
    listener: TcpListener,
    source: &Arc<Source>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut conversations: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Without descriptors, the next try is no better.
            sleep(PAUSE).await;
            continue;
        };
        conversations.retain(|one| !one.is_finished());
        // Whoever came first has had the most time, so that idle clients lock nobody out.
        if conversations.len() >= MOST
            && let Some(oldest) = conversations.pop_front()
        {
            oldest.abort();
        }
        // Who takes longer is cut off.
        let conversation = timeout(LONGEST, converse(stream, source.clone()));
        conversations.push_back(tokio::spawn(async { _ = conversation.await }).abort_handle());
    }
}

/// One connection: one question.
async fn converse(stream: TcpStream, source: Arc<Source>) {
    let answering = service_fn(move |request| answer(request, source.clone()));
    // A faulty request is its client's affair.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    source: Arc<Source>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    let (kind, make): (_, fn(&Source) -> Option<Bytes>) = match request.uri().path() {
        "/metrics" => (super::CONTENT_TYPE, Source::metrics),
        "/overview.json" => ("application/json", Source::overview),
        "/" => return Ok(page()),
        _ => return Ok(plain(StatusCode::NOT_FOUND, "there are /, /metrics and /overview.json\n")),
    };
    Ok(match spawn_blocking(move || make(&source)).await {
        Ok(Some(text)) => response(StatusCode::OK, kind, text),
        Ok(None) | Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the director is ending\n"),
    })
}

/// The page for people. It loads nothing from anywhere else, and no other site shows it in a frame.
fn page() -> Response<Full<Bytes>> {
    let mut page = response(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes()));
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    page
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const PAGE: &str = include_str!("page.html");
/// What the page may do: show itself, and ask where it comes from.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Connections at a time; further ones end the oldest.
const MOST: usize = 64;
/// How long a client may take for the head of its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection lasts at most.
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const LONGEST_HEAD: usize = 16 << 10;
/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);
