//! One package: read hostile input, write, compare; the dpkg database
