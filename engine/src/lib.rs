//! What runs containers: run, build, copy out, load, save
