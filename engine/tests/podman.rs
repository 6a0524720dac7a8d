//! The engine's promises, against a real Podman.

#[path = "engine.rs"]
mod engine;
