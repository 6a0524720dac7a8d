//! Project to component graph to builder containers to collected packages
