use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use faultbed::model::Model;
use sim::explore::{Exhaustible, System};
use sim::world::World;
fn cut(s: &str, key: &str) -> String {
    let mut out = String::new();
    let mut rest = s;
    while let Some(at) = rest.find(key) {
        out.push_str(&rest[..at + key.len()]);
        rest = &rest[at + key.len()..];
        let end = rest.find([',', '}', ')']).unwrap();
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let limit: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let setup = Arc::new(sim::scenario::parse("x", &text).unwrap());
    let start = World::new(Arc::clone(&setup), Model::new(handler::Policy::default(), &setup));

    let mut w = start;
    for _ in 0..12 {
        let e = w.enabled();
        println!("enabled {e:b} put_off {:b} first {:?}", w.put_off(e), (0..64).filter(|a| e >> a & 1 == 1 && w.goes_first(*a)).collect::<Vec<_>>());
        let a = e.trailing_zeros() as usize;
        let d = w.apply(a); println!("{} {}", w.actor_name(a), w.describe(&d));
    }
}
