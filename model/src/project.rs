//! The project file. (written next)
/// The project.
pub struct Project;
