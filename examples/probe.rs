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
    let mut seen = HashSet::new();
    let mut proj: BTreeMap<&str, HashSet<u64>> = BTreeMap::new();
    let mut open = vec![start.clone()];
    let h = |s: &str| { use std::hash::{Hash, Hasher}; let mut d = std::collections::hash_map::DefaultHasher::new(); s.hash(&mut d); d.finish() };
    let mut rng = 1u64;
    let mut sample = vec![];
    while let Some(w) = open.pop() {
        if !seen.insert(w.arranged().0.end()) { continue; }
        if seen.len() > limit { break; }
        let sub = format!("{:?}", w.subject());
        let sub = cut(&cut(&sub, "generation: "), "next_generation: ");
        let ker = format!("{:?}", w.kernel());
        let i = sub.find("counters:").unwrap(); let j = sub[i..].find("births").unwrap() + i;
        let sub = format!("{}{}", &sub[..i], &sub[j..]);
        let tr = format!("{:?}", w); let i = tr.find("tasks: ").unwrap(); let j = tr.find("subject_threads").unwrap();
        let tasks = tr[i..j].to_string();
        let i = tr.find("truth: ").unwrap(); let j = tr[i..].find("kin: ").unwrap() + i;
        let truth = tr[i..j].to_string();
        let nochg = cut(&sub, "changing: ");
        let sl = nochg.find("deferred: [").unwrap(); let el = nochg[sl..].find(']').unwrap() + sl;
        let nodef = format!("{}{}", &nochg[..sl], &nochg[el..]);
        let rq = |s: &str| s.to_string();
        let i = sub.find("tracker: ").unwrap(); let j = sub.find("requests: ").unwrap();
        let tracker = &sub[i..j]; let notrack = format!("{}{}", &nodef[..i], &nodef[j..]);
        proj.entry("0 all").or_default().insert(h(&format!("{sub}{ker}{tasks}{truth}")));
        proj.entry("1 no changing count").or_default().insert(h(&format!("{nochg}{ker}{tasks}{truth}")));
        proj.entry("2 nor deferred times").or_default().insert(h(&format!("{nodef}{ker}{tasks}{truth}")));
        proj.entry("3 nor tracker").or_default().insert(h(&format!("{notrack}{ker}{tasks}{truth}")));
        proj.entry("4 nor truth").or_default().insert(h(&format!("{notrack}{ker}{tasks}")));
        proj.entry("a kernel").or_default().insert(h(&ker));
        proj.entry("b subject").or_default().insert(h(&sub));
        proj.entry("c subject nodef").or_default().insert(h(&nodef));
        proj.entry("d tracker").or_default().insert(h(&rq(tracker)));
        proj.entry("e truth").or_default().insert(h(&truth));
        proj.entry("f tasks").or_default().insert(h(&tasks));
        if seen.len() % (limit / 6) == 0 { sample.push(format!("{sub}\n   {ker}\n  {tasks} {truth}\n")); }
        let mut en = w.enabled();
        let clock = 1u64 << w.clock_actor();
        if en != clock { en &= !clock; }
        for a in 0..64 { if en >> a & 1 == 1 { let mut n = w.clone(); n.go(a); open.push(n); } }
        if open.len() > 1 { rng ^= rng << 13; rng ^= rng >> 7; rng ^= rng << 17; let k = (rng % open.len() as u64) as usize; let l = open.len() - 1; open.swap(k, l); }
    }
    println!("states {}", seen.len());
    for (k, v) in proj { println!("{k}: {}", v.len()); }
    for s in sample { println!("{}", &s[s.find("tracker").unwrap()..]); }
}
