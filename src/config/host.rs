//! What the settings depend on besides the text: named files, environment, interfaces, CPUs. Read from this machine
//! once ([`Machine`], which fills a bundle on the way) or from the bundle ([`Packed`]).

use super::bundle::{Bundle, Interface};
use ipnet::IpNet;
use nix::sys::socket::SockaddrLike as _;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// No secret, certificate chain or key is larger; keeps a slip like /dev/zero from filling the memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Names the run-time directory of an ordinary user's session; the admin socket goes there when we are not root.
pub(crate) const USER_RUN_DIR: &str = "XDG_RUNTIME_DIR";

/// Names what `RuntimeDirectory=` of the unit made.
const SERVICE_RUN_DIR: &str = "RUNTIME_DIRECTORY";

pub(crate) trait Host {
    fn read(&mut self, path: &Path) -> io::Result<FileContent>;
    fn variable(&mut self, name: &str) -> Option<String>;
    /// A file that only the privileged process may see: no bundle carries it.
    fn read_private(&mut self, path: &Path) -> io::Result<Private<FileContent>>;
    /// As [`Host::read_private`]; `None` if there is no such variable.
    fn private_variable(&mut self, name: &str) -> Option<Private<String>>;
    fn interfaces(&self) -> &[Interface];
    fn cpus(&self) -> usize;
    fn has_user(&self, name: &str) -> bool;
    fn admin_socket(&mut self) -> PathBuf {
        // A service of systemd, which may be under an account of its own.
        if let Some(directories) = self.variable(SERVICE_RUN_DIR)
            && let Some(first) = directories.split(':').next().filter(|first| first.starts_with('/'))
        {
            return Path::new(first).join("lyre.sock");
        }
        match self.variable(USER_RUN_DIR) {
            Some(directory) if !directory.is_empty() => Path::new(&directory).join("lyre/lyre.sock"),
            _ => PathBuf::from("/run/lyre/lyre.sock"),
        }
    }
}

pub(crate) struct FileContent {
    pub(crate) bytes: Vec<u8>,
    /// Every user of this machine may read it. False where that is not known (from a bundle).
    pub(crate) is_public: bool,
}

pub(crate) enum Private<T> {
    Known(T),
    /// It is none of this process's business.
    Withheld,
}

/// This machine. Everything asked for is kept in `bundle`.
pub(crate) struct Machine {
    pub(crate) bundle: Bundle,
}

/// A machine as a bundle remembers it.
pub(crate) struct Packed<'a>(pub(crate) &'a Bundle);

impl Machine {
    pub(crate) fn new(path: &Path, text: String, node: Option<&str>) -> Machine {
        let bundle = Bundle {
            path: path.to_owned(),
            text,
            node: node.map(str::to_owned),
            interfaces: interfaces(),
            cpus: cpus(),
            ..Bundle::default()
        };
        Machine { bundle }
    }

    fn open(&self, path: &Path) -> io::Result<FileContent> {
        open(&self.bundle.path.parent().unwrap_or(Path::new("")).join(path))
    }
}

fn open(path: &Path) -> io::Result<FileContent> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(FileContent { bytes, is_public: metadata.permissions().mode() & 0o004 != 0 })
}

/// Its content, within the limit for files that a configuration names.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    open(path).map(|file| file.bytes)
}

impl Host for Machine {
    fn read(&mut self, path: &Path) -> io::Result<FileContent> {
        let file = self.open(path)?;
        self.bundle.files.insert(path.to_owned(), file.bytes.clone());
        Ok(file)
    }

    fn variable(&mut self, name: &str) -> Option<String> {
        let value = std::env::var(name).ok();
        let user = nix::unistd::geteuid();
        let value = match name {
            // Root has a place of its own, whatever service it is that asks there.
            USER_RUN_DIR | SERVICE_RUN_DIR if user.is_root() => None,
            // No login session (a container, a CI job). Somebody else's directory there makes binding fail, and
            // `cli::client` talks to no stranger.
            USER_RUN_DIR => value.or_else(|| Some(format!("/tmp/lyre-{user}"))),
            _ => value,
        }?;
        self.bundle.environment.insert(name.to_owned(), value.clone());
        Some(value)
    }

    fn read_private(&mut self, path: &Path) -> io::Result<Private<FileContent>> {
        self.open(path).map(Private::Known)
    }

    fn private_variable(&mut self, name: &str) -> Option<Private<String>> {
        std::env::var(name).ok().map(Private::Known)
    }

    fn interfaces(&self) -> &[Interface] {
        &self.bundle.interfaces
    }

    fn cpus(&self) -> usize {
        self.bundle.cpus
    }

    fn has_user(&self, name: &str) -> bool {
        matches!(nix::unistd::User::from_name(name), Ok(Some(_)))
    }
}

impl Host for Packed<'_> {
    fn read(&mut self, path: &Path) -> io::Result<FileContent> {
        let bytes = self.0.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(FileContent { bytes: bytes.clone(), is_public: false })
    }

    fn variable(&mut self, name: &str) -> Option<String> {
        self.0.environment.get(name).cloned()
    }

    /// The parent read it and found it good.
    fn read_private(&mut self, path: &Path) -> io::Result<Private<FileContent>> {
        let known = self.0.files.get(path).map(|bytes| FileContent { bytes: bytes.clone(), is_public: false });
        Ok(known.map_or(Private::Withheld, Private::Known))
    }

    fn private_variable(&mut self, name: &str) -> Option<Private<String>> {
        Some(self.0.environment.get(name).cloned().map_or(Private::Withheld, Private::Known))
    }

    fn interfaces(&self) -> &[Interface] {
        &self.0.interfaces
    }

    fn cpus(&self) -> usize {
        self.0.cpus
    }

    /// The parent looked.
    fn has_user(&self, _name: &str) -> bool {
        true
    }
}

/// Reads lyre.toml itself.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Interfaces in the kernel's order, with their addresses; empty when the kernel does not say.
fn interfaces() -> Vec<Interface> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let name = entry.interface_name;
        let index = found.iter().position(|known| known.name == name).unwrap_or_else(|| {
            found.push(Interface { name, addresses: Vec::new() });
            found.len() - 1
        });
        let network = entry.address.and_then(ip_of).zip(entry.netmask.and_then(ip_of));
        let network = network.and_then(|(address, mask)| IpNet::with_netmask(address, mask).ok());
        if let (Some(known), Some(network)) = (found.get_mut(index), network) {
            known.addresses.push(network);
        }
    }
    found
}

fn ip_of(address: nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip())),
        nix::sys::socket::AddressFamily::Inet6 => address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())),
        _ => None,
    }
}

/// CPUs this process may run on.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
