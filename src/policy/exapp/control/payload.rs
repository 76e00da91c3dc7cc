//! Bodies of Docker calls.

use super::{Verb, is_name};
use crate::policy::exapp::reply::Reply;
use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Exists(Names),
    Create(Create),
    Start(Names),
    Stop(Names),
    WaitForStart(Names),
    Remove {
        names: Names,
        with_data: bool,
    },
    ImageRemove {
        image: String,
    },
    InstallCertificates {
        names: Names,
        /// PEM.
        bundle: Option<String>,
        with_frp: bool,
    },
}

/// What belongs to an ExApp on an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The app's id.
    pub name: String,
    pub container: String,
    pub volume: String,
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    pub names: Names,
    pub image: String,
    pub network: String,
    /// `NAME=value`.
    pub environment: Vec<String>,
    pub restart_policy: String,
    pub device: Device,
    pub mounts: Vec<Mount>,
    pub memory_bytes: Option<i64>,
    pub nano_cpus: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Rocm,
    Cuda,
}

/// A path of the engine's host inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub source: String,
    pub target: String,
    pub is_read_only: bool,
}

pub(super) fn parse(verb: Verb, body: &[u8]) -> Result<Command, Reply> {
    let value: Value = serde_json::from_slice(body).map_err(|_| Reply::text(400, "Invalid JSON body"))?;
    let fields = Fields(value.as_object().ok_or_else(|| invalid("body", "is not an object"))?);
    if verb == Verb::ImageRemove {
        let image = fields.text("image_ref")?.ok_or_else(|| invalid("image_ref", "is missing"))?;
        return Ok(Command::ImageRemove { image: check(image, "image_ref", is_image)? });
    }
    let names = fields.names()?;
    Ok(match verb {
        Verb::Exists | Verb::ImageRemove => Command::Exists(names),
        Verb::Start => Command::Start(names),
        Verb::Stop => Command::Stop(names),
        Verb::WaitForStart => Command::WaitForStart(names),
        Verb::Remove => Command::Remove { names, with_data: fields.flag("remove_data", false)? },
        Verb::Create => Command::Create(fields.create(names)?),
        Verb::InstallCertificates => Command::InstallCertificates {
            names,
            bundle: fields.text("system_certs_bundle")?.filter(|bundle| !bundle.is_empty()).map(str::to_owned),
            with_frp: fields.flag("install_frp_certs", true)?,
        },
    })
}

fn invalid(field: &str, why: &str) -> Reply {
    Reply::text(400, format!("Payload validation error: {field} {why}"))
}

fn check(text: &str, field: &str, is_good: impl Fn(&str) -> bool) -> Result<String, Reply> {
    if is_good(text) { Ok(text.to_owned()) } else { Err(invalid(field, "has a value that cannot be used")) }
}

/// A reference of an image is one word.
fn is_image(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A network by its name. Another container's (`container:…`) would be that container's rights.
fn is_network(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

struct Fields<'v>(&'v Map<String, Value>);

impl<'v> Fields<'v> {
    /// `None` if it is not there or null.
    fn get(&self, field: &str) -> Option<&'v Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> Result<Option<&'v str>, Reply> {
        self.get(field).map(|value| value.as_str().ok_or_else(|| invalid(field, "is not a text"))).transpose()
    }

    fn flag(&self, field: &str, default: bool) -> Result<bool, Reply> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| invalid(field, "is neither true nor false")),
        }
    }

    fn list(&self, field: &str) -> Result<&'v [Value], Reply> {
        match self.get(field) {
            None => Ok(&[]),
            Some(value) => value.as_array().map(Vec::as_slice).ok_or_else(|| invalid(field, "is not a list")),
        }
    }

    fn names(&self) -> Result<Names, Reply> {
        let name = self.text("name")?.ok_or_else(|| invalid("name", "is missing"))?;
        let (instance, role) = (self.text("instance_id")?.unwrap_or(""), self.text("role_suffix")?.unwrap_or(""));
        let is_part = |text: &str| text.is_empty() || is_name(text);
        check(instance, "instance_id", is_part)?;
        check(role, "role_suffix", is_part)?;
        let separator = if instance.is_empty() { "" } else { "_" };
        let base = format!("nc_app_{instance}{separator}{name}");
        let container = if role.is_empty() { base.clone() } else { format!("{base}_{role}") };
        Ok(Names { name: check(name, "name", is_name)?, container, volume: format!("{base}_data") })
    }

    fn create(&self, names: Names) -> Result<Create, Reply> {
        let image = self.text("image_id")?.or(self.text("image")?).ok_or_else(|| invalid("image_id", "is missing"))?;
        let network = self.text("network_mode")?.unwrap_or("bridge");
        let device = match self.text("compute_device")?.unwrap_or("cpu") {
            "cpu" => Device::Cpu,
            "rocm" => Device::Rocm,
            "cuda" => Device::Cuda,
            _ => return Err(invalid("compute_device", "is none of cpu, rocm and cuda")),
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let environment: Option<_> = self.list("environment_variables")?.iter().map(text).collect();
        Ok(Create {
            names,
            image: check(image, "image_id", is_image)?,
            network: check(network, "network_mode", is_network)?,
            environment: environment.ok_or_else(|| invalid("environment_variables", "is not a list of texts"))?,
            restart_policy: self.text("restart_policy")?.unwrap_or("unless-stopped").to_owned(),
            device,
            mounts: self.list("mount_points")?.iter().map(mount).collect::<Result<_, _>>()?,
            memory_bytes: self.limit("memory")?,
            nano_cpus: self.limit("nanoCPUs")?,
        })
    }

    fn limit(&self, name: &str) -> Result<Option<i64>, Reply> {
        let limits = match self.get("resource_limits") {
            // PHP writes an object without fields so.
            Some(Value::Array(list)) if list.is_empty() => None,
            Some(value) => Some(value.as_object().ok_or_else(|| invalid("resource_limits", "is not an object"))?),
            None => None,
        };
        let Some(limit) = limits.and_then(|limits| limits.get(name)).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let limit = limit.as_i64().filter(|limit| *limit >= 0);
        limit.map(Some).ok_or_else(|| invalid(name, "is not a whole number"))
    }
}

fn mount(value: &Value) -> Result<Mount, Reply> {
    let fields = Fields(value.as_object().ok_or_else(|| invalid("mount_points", "is not a list of objects"))?);
    let path = |field| fields.text(field)?.ok_or_else(|| invalid(field, "of a mount point is missing"));
    Ok(Mount {
        source: path("source")?.to_owned(),
        target: path("target")?.to_owned(),
        is_read_only: fields.text("mode")? == Some("ro"),
    })
}
