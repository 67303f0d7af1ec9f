//! What is wrong with the file, and what to do.

use std::io;
use std::path::PathBuf;

/// The file, or one that it names, cannot be used. Each tells its cause itself.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// It is not of the format.
    #[error(
        "{path} is not a web configuration: {error}; the format is that of the Prometheus \
         exporter-toolkit, see deploy/README.md", path = path.display()
    )]
    Format {
        /// Which.
        path: PathBuf,
        /// Where and why.
        error: Box<serde_saphyr::Error>,
    },
    /// A key is missing, or does not go with another one.
    #[error("tls_server_config: {0}")]
    Tls(String),
    /// PEM that holds nothing of the kind that is wanted.
    #[error("{place} holds no {wanted} in PEM ({error})")]
    Pem {
        /// The file or the key.
        place: String,
        /// What should be there.
        wanted: &'static str,
        /// Why not.
        error: rustls::pki_types::pem::Error,
    },
    /// The TLS library refuses certificate, key or CA.
    #[error("tls_server_config: {0}")]
    Refused(rustls::Error),
    /// The CA file does not make a verifier.
    #[error("tls_server_config: client_ca: {0}")]
    ClientCa(rustls::server::VerifierBuilderError),
    /// A password that is not hashed.
    #[error(
        "basic_auth_users: the password of {user} is not hashed by bcrypt ({error}); \
         `htpasswd -nBC 10 {user}` prints such a line"
    )]
    Hash {
        /// Whose.
        user: String,
        /// Why.
        error: bcrypt::BcryptError,
    },
    /// A hash that takes minutes to check.
    #[error(
        "basic_auth_users: the hash of {user} has cost {cost}, which takes too long to check; \
         use at most {most}"
    )]
    Cost {
        /// Whose.
        user: String,
        /// That of the hash.
        cost: u32,
        /// The most that is taken.
        most: u32,
    },
    /// A name with a colon cannot be asked for (RFC 7617, section 2).
    #[error("basic_auth_users: the name {user:?} has a colon, which no client can send")]
    Name {
        /// The name.
        user: String,
    },
    /// A value that cannot be in a header.
    #[error("http_server_config: {header}: {value:?} cannot be the value of a header")]
    Header {
        /// Which header.
        header: &'static str,
        /// Its value.
        value: String,
    },
    /// TLS can be neither begun nor ended while the agent serves.
    #[error("tls_server_config has come or gone, which takes a restart of the agent")]
    Switched,
}
