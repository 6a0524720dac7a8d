//! Names that two stages must agree on.

/// The host that a runtime RUN names. It cannot exist (RFC 2606, section 2), so a build that does
/// not go through our server fails instead of asking a stranger.
pub const FIXED_HOST: &str = "repository.twostage.invalid";

/// The label that names the snapshot an image was installed from.
pub const SNAPSHOT_LABEL: &str = "twostage.snapshot";

/// The label that names the top layer of an image's base, so that an audit knows where the base
/// ends.
pub const BASE_LABEL: &str = "twostage.base";
