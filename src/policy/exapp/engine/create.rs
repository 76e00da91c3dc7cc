//! Making an ExApp's container, and what it may have of its host.

use super::{Call, Next, Steps, done, parse, text_at};
use crate::policy::exapp::control::{Create, Device, Mount};
use crate::policy::exapp::reply::Reply;
use serde_json::{Value, json};

/// What containers may have of the engine's host, besides their own volume.
///
/// The key that opens these calls lies in every ExApp that HaRP made, and a mount of `/` is the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Directories that may be mounted, with all that is below them.
    pub mounts: Vec<String>,
    /// Graphics cards.
    pub devices: bool,
    /// The host's own network.
    pub host_network: bool,
}

impl Default for Policy {
    /// What AppAPI does without an administrator's further wishes.
    fn default() -> Policy {
        Policy { mounts: Vec::new(), devices: true, host_network: true }
    }
}

impl Policy {
    fn check(&self, create: &Create) -> Result<(), Reply> {
        if let Some(mount) = create.mounts.iter().find(|mount| !self.allows(mount)) {
            let text = format!("Mount of '{}' is not allowed; the gateway's mounts do not list it.", mount.source);
            return Err(Reply::text(403, text));
        }
        if create.device != Device::Cpu && !self.devices {
            return Err(Reply::text(403, "Compute devices are not allowed by the gateway."));
        }
        if create.network == "host" && !self.host_network {
            return Err(Reply::text(403, "Network mode 'host' is not allowed by the gateway."));
        }
        Ok(())
    }

    fn allows(&self, mount: &Mount) -> bool {
        let is_below = |allowed: &String| {
            let rest = mount.source.strip_prefix(allowed.strip_suffix('/').unwrap_or(allowed));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        is_absolute(&mount.source) && is_absolute(&mount.target) && self.mounts.iter().any(is_below)
    }
}

/// Without a way up.
fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|segment| segment == "..") && !path.contains('\0')
}

impl Create {
    /// Whose tunnel the container will open, and for which port, if it is to open one.
    pub fn tunnel(&self) -> Option<(&str, u16)> {
        self.variable("HP_SHARED_KEY")?;
        Some((self.variable("APP_ID")?, self.variable("APP_PORT")?.parse().ok()?))
    }

    /// Gives the container this instead of the key that opens everything.
    pub fn set_tunnel_token(&mut self, token: &str) {
        for variable in self.environment.iter_mut().filter(|variable| variable.starts_with("HP_SHARED_KEY=")) {
            *variable = format!("HP_SHARED_KEY={token}");
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().rev().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
    }

    /// The body of the engine's call.
    fn body(&self) -> Value {
        let volume = &self.names.volume;
        let own = json!({ "Type": "volume", "Source": volume, "Target": format!("/{volume}"), "ReadOnly": false });
        let bind = |mount: &Mount| {
            let Mount { source, target, is_read_only } = mount;
            json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": is_read_only })
        };
        let mounts: Vec<Value> = std::iter::once(own).chain(self.mounts.iter().map(bind)).collect();
        let mut host = json!({
            "NetworkMode": self.network,
            "RestartPolicy": { "Name": self.restart_policy },
            "Mounts": mounts,
        });
        match self.device {
            Device::Cpu => {}
            Device::Cuda => {
                host["DeviceRequests"] =
                    json!([{ "Driver": "nvidia", "Count": -1, "Capabilities": [["compute", "utility"]] }]);
            }
            Device::Rocm => {
                let device = |path| json!({ "PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm" });
                host["Devices"] = json!([device("/dev/kfd"), device("/dev/dri")]);
            }
        }
        if let Some(memory) = self.memory_bytes {
            host["Memory"] = json!(memory);
        }
        if let Some(cpus) = self.nano_cpus {
            host["NanoCPUs"] = json!(cpus);
        }
        let mut body = json!({
            "Image": self.image,
            "Hostname": self.names.name,
            "Env": self.environment,
            "HostConfig": host,
        });
        if !matches!(self.network.as_str(), "host" | "bridge") {
            let network = &self.network;
            body["NetworkingConfig"] = json!({ "EndpointsConfig": { network: { "Aliases": [self.names.name] } } });
        }
        body
    }
}

enum Step {
    InspectVolume,
    CreateVolume,
    CreateContainer,
}

pub(super) struct Creation {
    create: Create,
    step: Step,
}

impl Creation {
    pub(super) fn new(create: Create, policy: &Policy) -> Result<Creation, Reply> {
        policy.check(&create)?;
        Ok(Creation { create, step: Step::InspectVolume })
    }

    fn create_container(&mut self) -> Next {
        self.step = Step::CreateContainer;
        let path = format!("/containers/create?name={}", self.create.names.container);
        Next::Call(Call::post_json(&path, &self.create.body()))
    }
}

impl Steps for Creation {
    fn begin(&mut self) -> Next {
        Next::Call(Call::get(format!("/volumes/{}", self.create.names.volume)))
    }

    fn heard(&mut self, status: u16, body: &[u8]) -> Next {
        let (container, volume) = (&self.create.names.container, &self.create.names.volume);
        match (&self.step, status) {
            (Step::InspectVolume, 200) | (Step::CreateVolume, 201) => self.create_container(),
            (Step::InspectVolume, 404) => {
                let call = Call::post_json("/volumes/create", &json!({ "Name": volume }));
                self.step = Step::CreateVolume;
                Next::Call(call)
            }
            (Step::InspectVolume, _) => done(503, format!("Error inspecting volume '{volume}': Status {status}")),
            (Step::CreateVolume, _) => done(503, format!("Failed to create volume '{volume}': Status {status}")),
            (Step::CreateContainer, 201) => match text_at(&parse(body), "/Id") {
                Some(id) => Next::Done(Reply::json(201, &json!({ "id": id, "name": container }))),
                None => done(500, "An unexpected error occurred during container creation."),
            },
            (Step::CreateContainer, 409) => done(409, format!("Container with name '{container}' already exists.")),
            (Step::CreateContainer, _) => done(503, format!("Error creating container '{container}': Status {status}")),
        }
    }

    fn activity(&self) -> &'static str {
        match self.step {
            Step::InspectVolume | Step::CreateVolume => "volume operation",
            Step::CreateContainer => "container creation",
        }
    }
}
