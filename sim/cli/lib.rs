//! Where the simulator and the handler meet.
