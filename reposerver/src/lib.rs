//! Packages to pool to snapshot to signed metadata to HTTP
