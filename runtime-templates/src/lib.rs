//! Project and snapshot to Dockerfile
