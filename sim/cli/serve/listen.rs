//! Unix sockets of a server: bound for their owner alone, and taken away at the end.
//! Owns the socket file.

use core::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

/// A bound socket whose file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

/// Why a socket cannot be bound.
#[derive(Debug)]
pub enum BindError {
    /// Somebody listens there already.
    InUse(PathBuf),
    /// A file that is no socket lies there.
    NotASocket(PathBuf),
    /// The system refused.
    Io(PathBuf, io::Error),
}

impl Listener {
    /// Bind `path`, readable and writable by its owner only. A socket that a dead server
    /// left there is replaced.
    ///
    /// Sets the process's umask for a moment: call it before other threads make files.
    pub fn bind(path: &Path) -> Result<Listener, BindError> {
        let failed = |e| BindError::Io(path.to_owned(), e);
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
            Ok(file) if !file.file_type().is_socket() => {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(BindError::InUse(path.to_owned())),
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(e) => return Err(failed(e)),
            },
        }
        // By umask and not by `chmod` afterwards: between the two, anybody could connect.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        Ok(Listener { socket: bound.map_err(failed)?, path: path.to_owned() })
    }

    /// The socket itself.
    pub fn socket(&self) -> &UnixListener {
        &self.socket
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A file that somebody else removed before is gone all the same.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::InUse(path) => {
                write!(f, "{}: another server listens there", path.display())
            }
            BindError::NotASocket(path) => {
                write!(f, "{}: a file that is no socket lies there; remove it", path.display())
            }
            BindError::Io(path, e) => write!(f, "{}: cannot listen there: {e}", path.display()),
        }
    }
}

impl core::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("faultbed-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn a_socket_is_its_owners_and_goes_with_the_server() {
        let path = scratch("listen");
        let listener = Listener::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Listener::bind(&path), Err(BindError::InUse(_))));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_file_is_not() {
        let path = scratch("left");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listener::bind(&path).unwrap());
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
    }
}
