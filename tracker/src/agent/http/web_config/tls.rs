//! TLS: certificates, versions, ciphers, and who clients must be.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    NamedGroup, ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion, version,
};

use super::error::WebConfigError;
use super::format::{ClientAuthType, TlsText, TlsVersion};

/// Where PEM comes from.
#[derive(Debug)]
enum PemSource<'a> {
    Inline(&'static str, &'a str),
    File(PathBuf),
}

/// The configuration of the library; relative paths are relative to `base`.
pub(super) fn server_config(text: &TlsText, base: &Path) -> Result<ServerConfig, WebConfigError> {
    if !text.client_allowed_sans.is_empty() {
        return Err(WebConfigError::Tls(
            "client_allowed_sans is not supported; use a CA of its own for these clients".into(),
        ));
    }
    let missing = |inline: &str| {
        WebConfigError::Tls(format!(
            "{inline}_file (or {inline}) is missing, and TLS needs it"
        ))
    };
    let cert = PemSource::of(
        "cert",
        text.cert.as_deref(),
        text.cert_file.as_deref(),
        base,
    )?
    .ok_or_else(|| missing("cert"))?;
    let key = PemSource::of("key", text.key.as_deref(), text.key_file.as_deref(), base)?
        .ok_or_else(|| missing("key"))?;
    let ca = PemSource::of(
        "client_ca",
        text.client_ca.as_deref(),
        text.client_ca_file.as_deref(),
        base,
    )?;
    let provider = Arc::new(provider(text)?);
    let versions = versions(text.min_version, text.max_version)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(WebConfigError::Refused)?;
    let builder = match (mandatory(text.client_auth_type, ca.is_some())?, ca) {
        (Some(mandatory), Some(ca)) => {
            let mut roots = RootCertStore::empty();
            for certificate in ca.certificates()? {
                roots.add(certificate).map_err(WebConfigError::Refused)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if mandatory {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(verifier.build().map_err(WebConfigError::ClientCa)?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(cert.certificates()?, key.private_key()?)
        .map_err(WebConfigError::Refused)?;
    config.ignore_client_order = text.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The files that are read.
pub(super) fn files(text: &TlsText, base: &Path) -> Vec<PathBuf> {
    let files = [&text.cert_file, &text.key_file, &text.client_ca_file];
    let files = files.into_iter().flatten();
    files.map(|file| base.join(file)).collect()
}

/// Whether clients must show a certificate (`Some(true)`) or may (`Some(false)`).
fn mandatory(kind: ClientAuthType, has_ca: bool) -> Result<Option<bool>, WebConfigError> {
    let wrong = |why: &str| Err(WebConfigError::Tls(why.to_owned()));
    match (kind, has_ca) {
        (ClientAuthType::NoClientCert, false) => Ok(None),
        (ClientAuthType::NoClientCert, true) => wrong(
            "client_ca is given, but client_auth_type asks for no certificate: \
             use RequireAndVerifyClientCert",
        ),
        (ClientAuthType::RequestClientCert | ClientAuthType::RequireAnyClientCert, _) => wrong(
            "client_auth_type takes any certificate without checking it, which keeps nobody out: \
             use RequireAndVerifyClientCert",
        ),
        (_, false) => wrong("client_auth_type needs client_ca_file (or client_ca)"),
        (ClientAuthType::VerifyClientCertIfGiven, true) => Ok(Some(false)),
        (ClientAuthType::RequireAndVerifyClientCert, true) => Ok(Some(true)),
    }
}

fn versions(
    least: Option<TlsVersion>,
    most: Option<TlsVersion>,
) -> Result<Vec<&'static SupportedProtocolVersion>, WebConfigError> {
    let least = least.unwrap_or(TlsVersion::Tls12);
    let most = most.unwrap_or(TlsVersion::Tls13);
    if least < TlsVersion::Tls12 || most < TlsVersion::Tls12 {
        return Err(WebConfigError::Tls(
            "versions before TLS12 are broken and not served; use TLS12 or TLS13".into(),
        ));
    }
    if least > most {
        return Err(WebConfigError::Tls(
            "min_version is above max_version".into(),
        ));
    }
    let known = [
        (TlsVersion::Tls13, &version::TLS13),
        (TlsVersion::Tls12, &version::TLS12),
    ];
    let wanted = known
        .into_iter()
        .filter(|(it, _)| (least..=most).contains(it));
    Ok(wanted.map(|(_, version)| version).collect())
}

/// The ciphers and curves that the text names, or all.
fn provider(text: &TlsText) -> Result<CryptoProvider, WebConfigError> {
    let mut provider = ring::default_provider();
    if !text.cipher_suites.is_empty() {
        provider.cipher_suites = cipher_suites(&text.cipher_suites, &provider.cipher_suites)?;
    }
    if !text.curve_preferences.is_empty() {
        provider.kx_groups = curves(&text.curve_preferences, &provider.kx_groups)?;
    }
    Ok(provider)
}

/// As in Go, the list is about TLS 1.2; those of TLS 1.3 are always there.
fn cipher_suites(
    names: &[String],
    all: &[SupportedCipherSuite],
) -> Result<Vec<SupportedCipherSuite>, WebConfigError> {
    let (newest, older): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|suite| suite.version().version == ProtocolVersion::TLSv1_3);
    let name = |suite: &SupportedCipherSuite| suite.suite().as_str().unwrap_or_default();
    let mut chosen = newest;
    for wanted in names {
        // Go's older names of two of them.
        let wanted = wanted.strip_suffix("_CHACHA20_POLY1305").map_or_else(
            || wanted.clone(),
            |it| format!("{it}_CHACHA20_POLY1305_SHA256"),
        );
        match older.iter().find(|suite| name(suite) == wanted) {
            Some(suite) => chosen.push(*suite),
            None if is_of_tls13(&wanted) => {}
            None => {
                let known: Vec<_> = older.iter().map(name).collect();
                return Err(WebConfigError::Tls(format!(
                    "cipher_suites: {wanted} is not known; these are: {}",
                    known.join(", ")
                )));
            }
        }
    }
    Ok(chosen)
}

/// Go's names of those that TLS 1.3 has.
fn is_of_tls13(name: &str) -> bool {
    matches!(
        name,
        "TLS_AES_128_GCM_SHA256" | "TLS_AES_256_GCM_SHA384" | "TLS_CHACHA20_POLY1305_SHA256"
    )
}

fn curves(
    names: &[String],
    all: &[&'static dyn SupportedKxGroup],
) -> Result<Vec<&'static dyn SupportedKxGroup>, WebConfigError> {
    let group = |name: &String| {
        let group = match name.as_str() {
            "X25519" => NamedGroup::X25519,
            "CurveP256" => NamedGroup::secp256r1,
            "CurveP384" => NamedGroup::secp384r1,
            _ => {
                return Err(WebConfigError::Tls(format!(
                    "curve_preferences: {name} is not known; these are: X25519, CurveP256, \
                     CurveP384"
                )));
            }
        };
        Ok(all.iter().copied().find(|it| it.name() == group))
    };
    names
        .iter()
        .filter_map(|name| group(name).transpose())
        .collect()
}

impl<'a> PemSource<'a> {
    fn of(
        key: &'static str,
        inline: Option<&'a str>,
        file: Option<&Path>,
        base: &Path,
    ) -> Result<Option<Self>, WebConfigError> {
        match (inline, file) {
            (Some(_), Some(_)) => Err(WebConfigError::Tls(format!(
                "{key} and {key}_file are both given; one is enough"
            ))),
            (Some(text), None) => Ok(Some(Self::Inline(key, text))),
            (None, Some(file)) => Ok(Some(Self::File(base.join(file)))),
            (None, None) => Ok(None),
        }
    }

    fn read(&self) -> Result<Vec<u8>, WebConfigError> {
        match self {
            Self::Inline(_, text) => Ok(text.as_bytes().to_vec()),
            Self::File(path) => fs::read(path).map_err(|error| WebConfigError::Unreadable {
                path: path.clone(),
                error,
            }),
        }
    }

    fn wrong(&self, wanted: &'static str, error: rustls::pki_types::pem::Error) -> WebConfigError {
        let place = match self {
            Self::Inline(key, _) => (*key).to_owned(),
            Self::File(path) => path.display().to_string(),
        };
        WebConfigError::Pem {
            place,
            wanted,
            error,
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, WebConfigError> {
        let pem = self.read()?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let wrong = |error| self.wrong("certificate", error);
        let all = all.map_err(wrong)?;
        if all.is_empty() {
            return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
        }
        Ok(all)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, WebConfigError> {
        let pem = self.read()?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| self.wrong("private key", error))
    }
}
