//! Which part of a campaign this process does. Owns the notation `2/8` and what array jobs put
//! into the environment.

use std::fmt;
use std::str::FromStr;

/// Part `index` of `count`, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Which, from 1 to `count`.
    pub index: u64,
    /// Of how many.
    pub count: u64,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Shard = Shard { index: 1, count: 1 };

    /// Does turn-round `round` belong to it?
    pub fn has(self, round: u64) -> bool {
        round % self.count == self.index - 1
    }

    /// The part that the environment asks for, `get` being what reads it: that of a Slurm array
    /// or of an indexed Kubernetes job, whose number of parts must be in `FAULTBED_SHARDS`
    /// because Kubernetes does not tell. `None` outside of both.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<Shard>, String> {
        let number = |name: &str| match get(name) {
            None => Ok(None),
            Some(text) => text
                .trim()
                .parse::<u64>()
                .map(Some)
                .map_err(|_| format!("{name} should be a number, found `{text}`")),
        };
        if let (Some(id), Some(count)) =
            (number("SLURM_ARRAY_TASK_ID")?, number("SLURM_ARRAY_TASK_COUNT")?)
        {
            let min = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            let index = id.checked_sub(min).map(|from| from / step + 1);
            return index
                .filter(|index| *index <= count)
                .map(|index| Some(Shard { index, count }))
                .ok_or_else(|| format!("SLURM_ARRAY_TASK_ID {id} is outside of its array"));
        }
        if let Some(index) = number("JOB_COMPLETION_INDEX")? {
            let Some(count) = number("FAULTBED_SHARDS")? else {
                return Err("JOB_COMPLETION_INDEX is set; set FAULTBED_SHARDS to the number of \
                            completions, or give --shard"
                    .to_owned());
            };
            if index >= count {
                return Err(format!("JOB_COMPLETION_INDEX {index} is not below {count}"));
            }
            return Ok(Some(Shard { index: index + 1, count }));
        }
        Ok(None)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parts =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
            _ => Err(format!("expected I/N with I from 1 to N, such as 2/8, found `{text}`")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, count: 8 }));
        for text in ["", "1", "0/3", "4/3", "a/b", "1/0", "-1/2"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn array_jobs_know_their_part() {
        let of = |pairs: &'static [(&str, &str)]| {
            Shard::from_environment(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), Ok(None));
        let slurm = of(&[
            ("SLURM_ARRAY_TASK_ID", "14"),
            ("SLURM_ARRAY_TASK_MIN", "10"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "5"),
        ]);
        assert_eq!(slurm, Ok(Some(Shard { index: 3, count: 5 })));
        let kubernetes = of(&[("JOB_COMPLETION_INDEX", "0"), ("FAULTBED_SHARDS", "4")]);
        assert_eq!(kubernetes, Ok(Some(Shard { index: 1, count: 4 })));
        assert!(of(&[("JOB_COMPLETION_INDEX", "0")]).is_err());
        assert!(of(&[("JOB_COMPLETION_INDEX", "4"), ("FAULTBED_SHARDS", "4")]).is_err());
        assert!(of(&[("SLURM_ARRAY_TASK_ID", "x"), ("SLURM_ARRAY_TASK_COUNT", "2")]).is_err());
    }
}
