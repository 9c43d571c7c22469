use serde::Serialize;
use std::collections::HashMap;

/// What a test program of the standard harness said.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Tests {
    pub passed: usize,
    pub failed: Vec<Failure>,
    pub ignored: usize,
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    pub test: String,
    /// The line of its panic, if it was found.
    pub panic: Option<String>,
}

impl Tests {
    /// Reads the lines `test NAME ... ok`. Where output is shown, the result may stand on a later line. Panics come before it
    /// or at the end; a test's thread has the test's name.
    pub fn read(log: &str) -> Tests {
        let mut tests = Tests::default();
        let mut panics: HashMap<&str, &str> = HashMap::new();
        let mut running: Option<&str> = None;
        let mut lines = log.lines();
        while let Some(line) = lines.next() {
            // Of `thread 'name' (7) panicked at file:1:2:` the text follows in the next line.
            let thread = line.strip_prefix("thread '");
            if let Some((name, rest)) = thread.and_then(|line| line.split_once('\''))
                && rest.contains("panicked at ")
            {
                panics
                    .entry(name)
                    .or_insert(lines.next().unwrap_or("").trim());
                continue;
            }
            let mut rest = line;
            if let Some((name, result)) = line
                .strip_prefix("test ")
                .and_then(|line| line.split_once(" ... "))
            {
                (running, rest) = (Some(name), result);
            }
            let Some(name) = running else {
                continue;
            };
            match rest.split([' ', ',']).next() {
                Some("ok") => tests.passed += 1,
                Some("ignored") => tests.ignored += 1,
                Some("FAILED") => tests.failed.push(Failure {
                    test: name.to_owned(),
                    panic: None,
                }),
                _ => continue,
            }
            running = None;
        }
        for failure in &mut tests.failed {
            let panic = panics.get(failure.test.as_str());
            failure.panic = panic.map(|text| (*text).to_owned());
        }
        tests
    }

    /// A sentence on the first test that failed.
    pub fn first_failure(&self) -> Option<String> {
        let first = self.failed.first()?;
        let count = self.failed.len();
        let panic = first.panic.as_deref().unwrap_or("see the log");
        let others = if count > 1 {
            format!(" (and {} more)", count - 1)
        } else {
            String::new()
        };
        Some(format!("{} failed: {panic:.200}{others}", first.test))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_wherever_they_stand() {
        let tests = Tests::read(
            "running 5 tests\ntest a::b ... ok\ntest c ... ignored, minutes\ntest d ... 512 tokens: said\nok\n\
             test e ... \nthread 'e' (12) panicked at tests/e.rs:3:5:\nassertion failed: x\nnote: run with\nFAILED\n\
             test f ... FAILED\n\nfailures:\n\n---- f stdout ----\n\nthread 'f' (13) panicked at tests/f.rs:1:1:\n4 of 5\n\n\
             test result: FAILED. 2 passed; 2 failed\n",
        );
        assert_eq!((tests.passed, tests.ignored), (2, 1));
        let failed = |test: &str, panic: &str| Failure {
            test: test.to_owned(),
            panic: Some(panic.to_owned()),
        };
        let expected = [failed("e", "assertion failed: x"), failed("f", "4 of 5")];
        assert_eq!(tests.failed, expected);
        assert_eq!(
            tests.first_failure().unwrap(),
            "e failed: assertion failed: x (and 1 more)"
        );
        assert_eq!(Tests::read("no test here"), Tests::default());
    }
}
