//! `--web.config.file`: who is served over TLS, and who is not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, version};
use testbed::{AgentProcess, KilledChild, eventually, get, has, patience, program};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PASSWORD: &str = "open: sesame";

/// An authority in a directory, and what it has signed.
struct CertificateDirectory {
    directory: tempfile::TempDir,
    authority: Issuer<'static, KeyPair>,
}

impl CertificateDirectory {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), own.pem()).unwrap();
        Self {
            directory,
            authority: Issuer::new(params, key),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Signs a new certificate: `NAME.pem` and `NAME.key`.
    fn sign(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress(LOOPBACK));
        let signed = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.path(&format!("{name}.pem")), signed.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn certificates(&self, file: &str) -> Vec<CertificateDer<'static>> {
        let pem = fs::read(self.path(file)).unwrap();
        CertificateDer::pem_slice_iter(&pem)
            .map(Result::unwrap)
            .collect()
    }

    /// A client that shows this certificate, if any.
    fn client(&self, name: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates("ca.pem") {
            roots.add(certificate).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS12, &version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let Some(name) = name else {
            return builder.with_no_client_auth();
        };
        let key = fs::read(self.path(&format!("{name}.key"))).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
        let certificates = self.certificates(&format!("{name}.pem"));
        builder.with_client_auth_cert(certificates, key).unwrap()
    }

    /// Writes a web configuration; returns its path.
    fn web(&self, text: &str) -> String {
        let path = self.path("web.yml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// TLS, a certificate of the client's, and a password.
fn everything() -> String {
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    format!(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  \
         client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  \
         min_version: TLS13\n\
         http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n\
         basic_auth_users:\n  scraper: {hash}\n"
    )
}

/// Status and head of `/healthz`, and the certificate that was shown; an error of TLS or the
/// connection.
fn ask(
    client: ClientConfig,
    address: &str,
    password: Option<&str>,
) -> std::io::Result<(u16, String, CertificateDer<'static>)> {
    let name = ServerName::IpAddress(LOOPBACK.into());
    let connection = ClientConnection::new(Arc::new(client), name).unwrap();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience()))?;
    let mut stream = StreamOwned::new(connection, stream);
    let password = password.map_or_else(String::new, |password| {
        let pair = STANDARD.encode(format!("scraper:{password}"));
        format!("Authorization: Basic {pair}\r\n")
    });
    write!(
        stream,
        "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{password}\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let shown = stream.conn.peer_certificates().unwrap()[0].clone();
    Ok((code, answer, shown))
}

#[test]
fn certificate_and_password_are_asked_for_and_read_again() {
    let ca = CertificateDirectory::new();
    let others = CertificateDirectory::new();
    ca.sign("server");
    ca.sign("scraper");
    others.sign("scraper");
    let web = ca.web(&everything());
    let agent = AgentProcess::start(&["--web.config.file", &web]);
    let with = |client: ClientConfig, password| ask(client, &agent.address, password);
    let (code, answer, shown) = with(ca.client(Some("scraper")), Some(PASSWORD)).unwrap();
    assert_eq!(code, 200, "{answer}");
    assert!(answer.contains("x-frame-options: deny"), "{answer}");
    assert_eq!(shown, ca.certificates("server.pem")[0]);
    for wrong in [None, Some("wrong"), Some("")] {
        // What is remembered must be right, too.
        for _ in 0..2 {
            let (code, answer, _) = with(ca.client(Some("scraper")), wrong).unwrap();
            assert_eq!(code, 401, "{wrong:?}: {answer}");
            assert!(answer.contains("www-authenticate: Basic"), "{answer}");
        }
    }
    with(ca.client(None), Some(PASSWORD)).unwrap_err();
    let mut stranger = ca.client(None);
    stranger.client_auth_cert_resolver = others.client(Some("scraper")).client_auth_cert_resolver;
    with(stranger, Some(PASSWORD)).unwrap_err();

    // Wrong files change nothing, and are told.
    fs::write(ca.path("server.key"), "no key").unwrap();
    hang_up(&agent);
    eventually("the wrong key is told", || {
        agent.log().contains("private key").then_some(())
    });
    let (code, ..) = with(ca.client(Some("scraper")), Some(PASSWORD)).unwrap();
    assert_eq!(code, 200);

    // A new certificate is seen without a signal.
    ca.sign("server");
    let new = ca.certificates("server.pem")[0].clone();
    assert_ne!(new, shown);
    eventually("the new certificate is shown", || {
        let (code, _, shown) = with(ca.client(Some("scraper")), Some(PASSWORD)).unwrap();
        assert_eq!(code, 200);
        (shown == new).then_some(())
    });

    // A user who is gone.
    let text = everything().replace("scraper: ", "other: ");
    ca.web(&text);
    hang_up(&agent);
    eventually("the user is gone", || {
        let (code, ..) = with(ca.client(Some("scraper")), Some(PASSWORD)).unwrap();
        (code == 401).then_some(())
    });
}

fn hang_up(agent: &AgentProcess) {
    let pid = Pid::from_raw(agent.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

#[test]
fn a_wrong_file_is_refused_at_start_with_what_to_do() {
    let ca = CertificateDirectory::new();
    ca.sign("server");
    let tls = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
    let cases = [
        ("tls_server_config:\n  cert_file: server.pem\n", "key_file"),
        ("tls_sever_config: {}\n", "tls_sever_config"),
        (
            "tls_server_config:\n  cert_file: no.pem\n  key_file: server.key\n",
            "no.pem",
        ),
        (
            "tls_server_config:\n  cert_file: server.key\n  key_file: server.key\n",
            "certificate",
        ),
        (&format!("{tls}  min_version: TLS10\n"), "TLS12"),
        (
            &format!("{tls}  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n"),
            "these are",
        ),
        (
            &format!("{tls}  curve_preferences: [CurveP521]\n"),
            "CurveP256",
        ),
        (
            &format!("{tls}  client_auth_type: RequireAnyClientCert\n"),
            "RequireAndVerifyClientCert",
        ),
        (
            &format!("{tls}  client_auth_type: RequireAndVerifyClientCert\n"),
            "client_ca_file",
        ),
        ("basic_auth_users:\n  scraper: plain\n", "htpasswd"),
        ("basic_auth_users: [scraper]\n", "not a web configuration"),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: \"a\\nb\"\n",
            "X-Frame-Options",
        ),
    ];
    for (text, told) in cases {
        let web = ca.web(text);
        let mut command = testbed::agent(&["--web.config.file", &web]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{text}: {said}");
        assert!(
            said.contains(told) && said.contains("--web.config.file"),
            "{text}: {said}"
        );
    }
}

/// A scrape job of each kind of client, and whether it may scrape.
fn jobs(ca: &CertificateDirectory, address: &str) -> String {
    let file = |name: &str| ca.path(name).display().to_string();
    let certificate = format!(
        ", cert_file: {}, key_file: {}",
        file("scraper.pem"),
        file("scraper.key")
    );
    let job = |name: &str, scheme: &str, certificate: &str, password: &str| {
        format!(
            "  - job_name: {name}\n    scheme: {scheme}\n    static_configs: [{{targets: \
             ['{address}']}}]\n    tls_config: {{ca_file: {}{certificate}}}\n    basic_auth: \
             {{username: scraper, password: '{password}'}}\n",
            file("ca.pem")
        )
    };
    [
        "global: {scrape_interval: 1s}\nscrape_configs:\n".to_owned(),
        job("right", "https", &certificate, PASSWORD),
        job("password", "https", &certificate, "wrong"),
        job("certificate", "https", "", PASSWORD),
        job("plain", "http", "", PASSWORD),
    ]
    .concat()
}

#[test]
fn prometheus_scrapes_with_certificate_and_password_and_not_without() {
    if !has("prometheus") {
        return;
    }
    let ca = CertificateDirectory::new();
    ca.sign("server");
    ca.sign("scraper");
    let web = ca.web(&everything());
    let agent = AgentProcess::start(&["--web.config.file", &web]);
    fs::write(ca.path("prometheus.yml"), jobs(&ca, &agent.address)).unwrap();
    let (_server, address) = start_prometheus(ca.directory.path());
    let health = |job: &str, targets: &serde_json::Value| {
        let all = targets["data"]["activeTargets"].as_array().unwrap();
        let target = all.iter().find(|it| it["labels"]["job"] == job)?;
        let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
        Some((text("health"), text("lastError")))
    };
    let expected = [
        ("right", "up", ""),
        ("password", "down", "401"),
        ("certificate", "down", "certificate"),
        ("plain", "down", ""),
    ];
    eventually("each job has scraped as it may", || {
        let (_, body) = get(&address, "/api/v1/targets");
        let targets = serde_json::from_str(&body).ok()?;
        expected
            .iter()
            .all(|(job, up, error)| {
                health(job, &targets)
                    .is_some_and(|(health, told)| health == *up && told.contains(error))
            })
            .then_some(())
    });
}

fn start_prometheus(directory: &Path) -> (KilledChild, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let mut command = Command::new("prometheus");
    command
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address={address}"))
        .current_dir(directory)
        .stderr(Stdio::null());
    let server = KilledChild(command.spawn().unwrap());
    eventually("prometheus is ready", || {
        TcpStream::connect(&address).ok()?;
        (get(&address, "/-/ready").0 == 200).then_some(())
    });
    (server, address)
}

/// `tracker top` is a client as any other: it wants to know who signed, and shows a password.
#[test]
fn top_asks_over_tls_with_a_password() {
    let ca = CertificateDirectory::new();
    let others = CertificateDirectory::new();
    ca.sign("server");
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let web = ca.web(&format!(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n\
         basic_auth_users:\n  scraper: {hash}\n"
    ));
    let agent = AgentProcess::start(&["--web.config.file", &web]);
    let url = format!("https://{}", agent.address);
    fs::write(ca.path("password"), format!("{PASSWORD}\n")).unwrap();
    fs::write(ca.path("wrong"), "wrong").unwrap();
    let top = |authority: &CertificateDirectory, password: &str| {
        let mut command = Command::new(program("tracker"));
        command.args(["top", "--json", &url, "--user", "scraper", "--ca-file"]);
        command
            .arg(authority.path("ca.pem"))
            .arg("--password-file")
            .arg(ca.path(password));
        let told = command.output().unwrap();
        (
            told.status.code(),
            told.stdout,
            String::from_utf8(told.stderr).unwrap(),
        )
    };
    let (code, shown, why) = top(&ca, "password");
    assert_eq!(code, Some(0), "{why}");
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert!(shown["processes"].is_array(), "{shown}");
    let (code, _, why) = top(&ca, "wrong");
    assert_eq!(
        (code, why.contains("--password-file")),
        (Some(1), true),
        "{why}"
    );
    let (code, _, why) = top(&others, "password");
    assert_eq!((code, why.contains("--ca-file")), (Some(1), true), "{why}");
}
