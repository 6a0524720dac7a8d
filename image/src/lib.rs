//! OCI images and layers: archives, trees, audit
