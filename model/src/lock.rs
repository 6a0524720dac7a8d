//! The lock: the exact closures. (written next)
/// The lock.
pub struct Lock;
