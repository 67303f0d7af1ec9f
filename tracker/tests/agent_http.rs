//! The HTTP side on loopback, with a view that answers without a kernel.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tracker::agent::http::{
    AgentReadiness, AgentView, HostNames, HttpLimits, HttpServer, ListenPlaces, WebConfig, router,
};
use tracker::metrics::EncodeError;

/// More than socket buffers hold, so that a client that does not read stalls the server.
const BIG: usize = 32 << 20;

#[derive(Default)]
struct FakeAgent {
    ready: AtomicBool,
    broken: AtomicBool,
    big: AtomicBool,
}

impl AgentView for FakeAgent {
    fn metrics(&self) -> Result<String, EncodeError> {
        if self.broken.load(Relaxed) {
            return Err(broken());
        }
        if self.big.load(Relaxed) {
            return Ok("#".repeat(BIG));
        }
        Ok("uffdwp_level{level=\"observe\"} 1\n".repeat(100))
    }

    fn readiness(&self) -> AgentReadiness {
        let ready = self.ready.load(Relaxed);
        AgentReadiness {
            ready,
            reason: "level observe, full is required".into(),
        }
    }

    fn status(&self) -> Value {
        json!({"level": "observe"})
    }

    fn processes(&self) -> serde_json::Result<String> {
        Ok("{\"processes\": []}\n".into())
    }

    fn landing(&self) -> askama::Result<String> {
        Ok("<h1>uffd-wp</h1>".into())
    }
}

fn broken() -> EncodeError {
    EncodeError::Duplicate("uffdwp_level".to_owned())
}

/// Patience of the server under test: short, so that the tests are.
const PATIENCE: Duration = Duration::from_millis(300);

fn limits() -> HttpLimits {
    HttpLimits {
        connections: 4,
        request: PATIENCE,
        unread: PATIENCE,
        ..HttpLimits::default()
    }
}

fn one(address: &str) -> ListenPlaces {
    ListenPlaces::Bind(vec![vec![address.to_owned()]])
}

struct RunningServer {
    address: SocketAddr,
    view: Arc<FakeAgent>,
    _runtime: tokio::runtime::Runtime,
}

fn start() -> RunningServer {
    start_with(limits())
}

fn start_with(limits: HttpLimits) -> RunningServer {
    let server = HttpServer::open(&one("127.0.0.1:0"), limits).unwrap();
    let address = server.addresses[0];
    let view = Arc::new(FakeAgent::default());
    let hosts = HostNames::of_machine(&["agent.example".parse().unwrap()]);
    let web = WebConfig::open(None).unwrap();
    let app = router(view.clone(), "/metrics", hosts, web, limits.response);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(server.serve(app, None, axum_server::Handle::new()));
    RunningServer {
        address,
        view,
        _runtime: runtime,
    }
}

impl RunningServer {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Sends bytes and reads until the server closes.
    fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        response
    }

    fn request(&self, method: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        );
        let response = self.raw(request.as_bytes());
        let end = response.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(response[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, head, response[end..].to_vec())
    }

    fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        self.request("GET", path, "")
    }
}

#[test]
fn metrics_have_the_content_type_of_the_text_format() {
    let (code, head, body) = start().get("/metrics");
    assert_eq!(code, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(body.starts_with(b"uffdwp_level"));
}

#[test]
fn metrics_are_compressed_when_the_client_asks() {
    let running = start();
    for encoding in ["gzip", "zstd"] {
        let accept = format!("Accept-Encoding: {encoding}\r\n");
        let (code, head, body) = running.request("GET", "/metrics", &accept);
        assert_eq!(code, 200);
        let wanted = format!("content-encoding: {encoding}");
        assert!(head.contains(&wanted), "{head}");
        assert!(body.len() < 1000, "{} bytes", body.len());
    }
}

#[test]
fn head_gives_no_body() {
    let (code, _, body) = start().request("HEAD", "/metrics", "");
    assert_eq!((code, body.len()), (200, 0));
}

#[test]
fn a_failed_scrape_is_503_with_its_reason() {
    let running = start();
    running.view.broken.store(true, Relaxed);
    let (code, _, body) = running.get("/metrics");
    let reason = format!("{}\n", broken());
    assert_eq!((code, body.as_slice()), (503, reason.as_bytes()));
}

#[test]
fn readiness_says_why_not() {
    let running = start();
    let (code, _, body) = running.get("/readyz");
    assert_eq!(
        (code, body.as_slice()),
        (503, b"level observe, full is required\n".as_slice())
    );
    running.view.ready.store(true, Relaxed);
    assert_eq!(running.get("/readyz").0, 200);
    assert_eq!(running.get("/healthz").0, 200);
}

#[test]
fn status_is_json_and_the_landing_page_html() {
    let running = start();
    let (_, head, body) = running.get("/status");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap()["level"],
        "observe"
    );
    let (_, head, body) = running.get("/");
    assert!(head.contains("content-type: text/html"), "{head}");
    assert_eq!(body, b"<h1>uffd-wp</h1>");
}

#[test]
fn the_rest_is_refused_in_plain_text() {
    let running = start();
    let (code, head, body) = running.get("/nothing");
    assert_eq!(code, 404);
    assert!(head.contains("content-type: text/plain"), "{head}");
    assert!(!body.is_empty());
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let (code, head, body) = running.request(method, "/metrics", "");
        assert_eq!(code, 405, "{method}");
        assert!(head.contains("content-type: text/plain"), "{head}");
        assert!(body.starts_with(b"only GET"), "{method}");
    }
}

/// What a page does whose name was made to point to this machine.
#[test]
fn who_asks_for_another_host_gets_nothing() {
    let running = start();
    for path in ["/metrics", "/status", "/processes", "/", "/nothing"] {
        let ask = |host: &str| {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            String::from_utf8(running.raw(request.as_bytes())).unwrap()
        };
        let refused = ask("rebound.example:19943");
        assert!(refused.starts_with("HTTP/1.1 421 "), "{refused}");
        let (_, body) = refused.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("rebound.example") && body.contains("--web.allowed-host"));
        assert!(
            !body.contains("uffdwp") && !body.contains("level"),
            "{body}"
        );
        for allowed in ["127.0.0.1", "[::1]:19943", "localhost:1", "agent.example"] {
            assert!(!ask(allowed).starts_with("HTTP/1.1 421"), "{allowed}");
        }
    }
}

#[test]
fn garbage_is_answered_with_400_or_closed() {
    let running = start();
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01".as_slice(),
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"hello\n\n",
    ] {
        let response = running.raw(garbage);
        let refused = response.is_empty() || response.starts_with(b"HTTP/1.1 400");
        assert!(
            refused,
            "{garbage:?}: {}",
            String::from_utf8_lossy(&response)
        );
    }
    assert_eq!(running.get("/healthz").0, 200);
}

#[test]
fn a_huge_request_head_is_refused() {
    let running = start();
    let mut stream = running.connect();
    let header = format!("X-A: {}\r\n", "a".repeat(60_000));
    // The server may close before it has taken everything.
    let _ =
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{header}\r\n").as_bytes());
    let mut response = [0; 12];
    if stream.read_exact(&mut response).is_ok() {
        assert_eq!(&response, b"HTTP/1.1 431");
    }
    assert_eq!(running.get("/healthz").0, 200);
}

/// Time until the server closes the connection.
fn closed_after(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new());
    start.elapsed()
}

#[test]
fn a_client_that_sends_nothing_is_closed() {
    let running = start();
    assert!(closed_after(&mut running.connect()) < Duration::from_secs(10));
}

#[test]
fn a_kept_connection_that_goes_quiet_is_closed() {
    let running = start();
    let mut stream = running.connect();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    assert!(closed_after(&mut stream) < Duration::from_secs(10));
}

#[test]
fn a_slow_request_is_closed_however_alive_it_looks() {
    let running = start();
    let mut stream = running.connect();
    let start = Instant::now();
    while stream.write_all(b"G").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

/// Whoever holds all slots and asks nothing loses the first of them, even to itself.
#[test]
fn idle_clients_lock_nobody_out() {
    let running = start_with(HttpLimits {
        connections: 4,
        request: Duration::from_secs(600),
        ..HttpLimits::default()
    });
    let mut idle: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for _ in 0..3 {
        assert_eq!(running.get("/healthz").0, 200);
        idle.push(running.connect());
    }
    closed_after(&mut idle[0]);
}

#[test]
fn a_client_that_does_not_read_gives_its_slot_back() {
    let running = start();
    running.view.big.store(true, Relaxed);
    let mut stuck: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for stream in &mut stuck {
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
    }
    let start = Instant::now();
    loop {
        let mut probe = running.connect();
        let _ = probe.write_all(b"GET /healthz HTTP/1.0\r\n\r\n");
        let mut answer = Vec::new();
        let _ = probe.read_to_end(&mut answer);
        if answer.starts_with(b"HTTP/1.0 200") && start.elapsed() > PATIENCE {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "the slots stay taken"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// They have their connections in common: those of one address are given up for the other's.
#[test]
fn several_addresses_share_their_limits() {
    let place = || vec!["127.0.0.1:0".to_owned()];
    let places = ListenPlaces::Bind(vec![place(), place()]);
    let limits = limits();
    let server = HttpServer::open(&places, limits).unwrap();
    let (first, second) = (server.addresses[0], server.addresses[1]);
    let hosts = HostNames::of_machine(&[]);
    let web = WebConfig::open(None).unwrap();
    let view = Arc::new(FakeAgent::default());
    let app = router(view, "/metrics", hosts, web, limits.response);
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let handle = axum_server::Handle::new();
    let serving = runtime.spawn(server.serve(app, None, handle.clone()));
    let ask = |address| {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ok\n"), "{answer}");
    };
    ask(first);
    let held: Vec<_> = (0..limits.connections)
        .map(|_| TcpStream::connect(first).unwrap())
        .collect();
    ask(second);
    let given_up = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read(&mut [0]).is_ok_and(|read| read == 0)
    };
    assert!(held.iter().any(given_up));
    drop(held);
    handle.graceful_shutdown(Some(PATIENCE));
    runtime.block_on(serving).unwrap().unwrap();
    assert!(TcpStream::connect(first).is_err() && TcpStream::connect(second).is_err());
}

#[test]
fn a_port_in_use_names_the_flag() {
    let running = start();
    let error = HttpServer::open(&one(&running.address.to_string()), limits())
        .unwrap_err()
        .to_string();
    assert!(error.contains("--web.listen-address"), "{error}");
    assert!(
        error.contains(&format!("sport = :{}", running.address.port())),
        "{error}"
    );
}
