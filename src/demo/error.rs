//! Why a demo could not run. A fault that was not survived is no error: it is what the demo is there to show.

use std::fmt;
use std::io;
use std::time::Duration;

#[derive(Debug)]
pub enum DemoError {
    /// The kernel or its administrator does not let this user make namespaces.
    Namespaces(io::Error),
    /// A step of building the laboratory failed.
    Lab { step: String, source: io::Error },
    /// A command of the system is missing or said no.
    Command { command: String, said: String },
    /// A certificate could not be made.
    Certificate(String),
    /// Something did not come about in time.
    Deadline { awaited: String, waited: Duration },
    /// The operating system process that holds the laboratory ended by a signal.
    Killed,
}

impl DemoError {
    /// For `map_err`: names the step an I/O error belongs to.
    pub fn lab(step: impl Into<String>) -> impl FnOnce(io::Error) -> DemoError {
        let step = step.into();
        move |source| DemoError::Lab { step, source }
    }
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemoError::Namespaces(source) => write!(
                f,
                "cannot make namespaces for the demo: {source}. Run it as root, or allow user namespaces \
                 (user.max_user_namespaces, kernel.unprivileged_userns_clone, \
                 kernel.apparmor_restrict_unprivileged_userns; containers need CAP_SYS_ADMIN or --privileged)"
            ),
            DemoError::Lab { step, source } => write!(f, "{step}: {source}"),
            DemoError::Command { command, said } => write!(f, "`{command}` failed: {said}"),
            DemoError::Certificate(reason) => write!(f, "cannot make the demo's certificate: {reason}"),
            DemoError::Deadline { awaited, waited } => write!(f, "waited {} s in vain for {awaited}", waited.as_secs()),
            DemoError::Killed => f.write_str("the demo's laboratory was killed"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DemoError::Namespaces(source) | DemoError::Lab { source, .. } => Some(source),
            DemoError::Command { .. } | DemoError::Certificate(_) | DemoError::Deadline { .. } | DemoError::Killed => {
                None
            }
        }
    }
}
