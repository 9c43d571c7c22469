use serde::Serialize;

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
    /// Reads the lines `test NAME ... ok`. With one thread and output that is shown, the result may stand on a later line.
    pub fn read(log: &str) -> Tests {
        let mut tests = Tests::default();
        let mut running: Option<&str> = None;
        let mut panic: Option<String> = None;
        let mut lines = log.lines();
        while let Some(line) = lines.next() {
            let mut rest = line;
            if let Some((name, result)) = line
                .strip_prefix("test ")
                .and_then(|line| line.split_once(" ... "))
            {
                (running, rest, panic) = (Some(name), result, None);
            }
            // Of `thread 'name' (7) panicked at file:1:2:` the text follows in the next line.
            if line.starts_with("thread '") && line.contains("panicked at ") {
                panic = lines.next().map(str::to_owned);
                continue;
            }
            let Some(name) = running else {
                continue;
            };
            let word = rest.split([' ', ',']).next();
            match word {
                Some("ok") => tests.passed += 1,
                Some("ignored") => tests.ignored += 1,
                Some("FAILED") => tests.failed.push(Failure {
                    test: name.to_owned(),
                    panic: panic.take(),
                }),
                _ => continue,
            }
            running = None;
        }
        tests
    }

    /// A sentence on the first test that failed.
    pub fn first_failure(&self) -> Option<String> {
        let first = self.failed.first()?;
        let count = self.failed.len();
        let panic = first.panic.as_deref().unwrap_or("see the log");
        let others = if count > 1 {
            format!(" (and {} others)", count - 1)
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
            "running 4 tests\ntest a::b ... ok\ntest c ... ignored, minutes\ntest d ... 512 tokens: said\nok\n\
             test e ... \nthread 'e' (12) panicked at tests/e.rs:3:5:\nassertion failed: x\nnote: run with\nFAILED\n\n\
             test result: FAILED. 2 passed; 1 failed\n",
        );
        assert_eq!((tests.passed, tests.ignored), (2, 1));
        let failed = Failure {
            test: "e".to_owned(),
            panic: Some("assertion failed: x".to_owned()),
        };
        assert_eq!(tests.failed, [failed]);
        assert_eq!(
            tests.first_failure().unwrap(),
            "e failed: assertion failed: x"
        );
        assert_eq!(Tests::read("no test here"), Tests::default());
    }
}
