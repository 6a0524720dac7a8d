//! What Podman does otherwise.

use crate::Kind;
use bollard::models::SystemVersion;

/// How the engine speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Docker,
    Podman,
}

impl Dialect {
    /// Podman names itself among the components of its version, as `Podman Engine`.
    pub(super) fn of(version: &SystemVersion) -> Dialect {
        let named = |name: &str| name.to_ascii_lowercase().contains("podman");
        match version.components.iter().flatten().any(|component| named(&component.name)) {
            true => Dialect::Podman,
            false => Dialect::Docker,
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Dialect::Docker => Kind::Docker,
            Dialect::Podman => Kind::Podman,
        }
    }
}
