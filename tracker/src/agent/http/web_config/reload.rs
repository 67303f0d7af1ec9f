//! The file as it is now.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use axum_server::tls_rustls::RustlsConfig;

use super::{WebAccess, WebConfigError, WebConfigState};

/// What is in force; clones share it. A file that is wrong changes nothing.
#[derive(Clone)]
pub struct WebConfig(Arc<SharedConfig>);

struct SharedConfig {
    /// `None`: plain HTTP and no passwords, for good.
    path: Option<PathBuf>,
    tls: Option<RustlsConfig>,
    access: RwLock<Arc<WebAccess>>,
    read: Mutex<Vec<FileState>>,
}

/// A file, and how to see that it is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    path: PathBuf,
    /// Device, inode, bytes, seconds and nanoseconds of its last change; `None`: it is not there.
    state: Option<(u64, u64, u64, i64, i64)>,
}

impl FileState {
    pub(super) fn of(path: &Path) -> Self {
        let state = |it: Metadata| (it.dev(), it.ino(), it.size(), it.ctime(), it.ctime_nsec());
        Self {
            path: path.to_owned(),
            state: fs::metadata(path).ok().map(state),
        }
    }
}

impl WebConfig {
    /// Reads the file; without one there are neither TLS nor passwords.
    ///
    /// # Errors
    /// If it is wrong, or a file that it names.
    pub fn open(path: Option<&Path>) -> Result<Self, WebConfigError> {
        let Some(path) = path else {
            let access = Arc::new(WebAccess::open_to_all());
            return Ok(Self(Arc::new(SharedConfig {
                path: None,
                tls: None,
                access: RwLock::new(access),
                read: Mutex::default(),
            })));
        };
        let state = WebConfigState::read(path)?;
        Ok(Self(Arc::new(SharedConfig {
            path: Some(path.to_owned()),
            tls: state.tls.map(RustlsConfig::from_config),
            access: RwLock::new(state.access),
            read: Mutex::new(state.files),
        })))
    }

    /// What handshakes are made with; `None`: plain HTTP.
    pub(in crate::agent) fn tls(&self) -> Option<RustlsConfig> {
        self.0.tls.clone()
    }

    /// How clients write the address.
    pub(in crate::agent) fn scheme(&self) -> &'static str {
        if self.0.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    pub(super) fn access(&self) -> Arc<WebAccess> {
        let access = self.0.access.read();
        access.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a file is another one than when it was read last.
    pub(in crate::agent) fn has_changed(&self) -> bool {
        self.files()
            .iter()
            .any(|file| FileState::of(&file.path) != *file)
    }

    /// Reads the file again. Open connections stay as they are.
    ///
    /// # Errors
    /// If something is wrong with it; what was in force stays in force then.
    pub(in crate::agent) fn reload(&self) -> Result<(), WebConfigError> {
        let Some(path) = &self.0.path else {
            return Ok(());
        };
        // Wrong files are not tried again before they change again.
        for file in self.files().iter_mut() {
            *file = FileState::of(&file.path);
        }
        let state = WebConfigState::read(path)?;
        match (&self.0.tls, state.tls) {
            (Some(running), Some(new)) => running.reload_from_config(new),
            (None, None) => {}
            _ => return Err(WebConfigError::Switched),
        }
        let access = self.0.access.write();
        *access.unwrap_or_else(PoisonError::into_inner) = state.access;
        *self.files() = state.files;
        Ok(())
    }

    fn files(&self) -> MutexGuard<'_, Vec<FileState>> {
        self.0.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path, if there is one.
    pub(in crate::agent) fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}
