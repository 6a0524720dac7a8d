//! The engine's promises, without a daemon.

#[path = "engine.rs"]
mod engine;
