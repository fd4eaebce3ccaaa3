"""Budgets: --ram gives the same text, simulate and plan say what a cache does."""

import unittest

from harness import DENSE, MIXTURE, CommandTest


class Store(CommandTest):
    run_args = ("run", MIXTURE, "-p", "Hello", "-n", "20", "--ignore-eos", "--seed", "3")

    def least(self, *more):
        """The smallest budget in MiB, as the refusal tells it."""
        result = self.bad(1, "the smallest budget is", *self.run_args, *more, "--ram", "1M")
        return int(result.err.split("the smallest budget is ")[1].split()[0])

    def test_the_text_is_the_same(self):
        text = self.good(*self.run_args).out
        budget = f"{self.least() + 1}M"
        for flags in ((), ("--cache-policy", "score", "--prefetch", "router"),
                      ("--io", "buffered", "--io-engine", "pread", "--ram", "400M")):
            result = self.good(*self.run_args, "--ram", budget, *flags)
            self.assertEqual(result.out, text)
            self.assertIn("experts in memory", result.err)
            self.assertIn("predicted", result.err)

    def test_figures(self):
        got = self.good(*self.run_args, "--json", "--ram", "1G").json()["store"]
        budget = got["budget"]
        self.assertEqual(budget["ram"], 1 << 30)
        self.assertEqual(budget["slots"], budget["experts"])  # all fit
        self.assertLessEqual(got["misses"] + got["hits_ahead"], budget["experts"])
        self.assertGreater(got["misses"], 0)
        self.assertGreater(got["read_bytes"], 0)
        self.assertGreater(got["measured_seconds_per_token"], 0)
        self.assertNotIn("store", self.good(*self.run_args, "--json").json())

    def test_wrong_budgets(self):
        self.bad(2, "--ram", *self.run_args, "--ram", "much")
        self.bad(2, "--ram", *self.run_args, "--ram", "0%")
        self.bad(2, "--ram", *self.run_args, "--ram", "101%")
        self.bad(1, "no experts", "run", DENSE, "-p", "x", "-n", "1", "--ram", "1G")
        self.bad(2, "--cache-trace", *self.run_args, "--cache-trace", "x")

    def test_a_share_of_memory(self):
        got = self.good(*self.run_args, "--json", "--ram", "50%").json()["store"]["budget"]
        twice = self.good(*self.run_args, "--json", "--ram", "100%").json()["store"]["budget"]
        self.assertAlmostEqual(2 * got["ram"] / twice["ram"], 1.0, 5)

    def test_simulate(self):
        trace = self.folder / "x.trace"
        self.good(*self.run_args, "--trace", trace)
        got = self.good("simulate", trace, "--slots", "4,16", "--share", "50", "--json").json()
        self.assertEqual(got["experts"], 16)
        rates = {(r["policy"], r["slots"]): r["hit_rate"] for r in got["results"]}
        self.assertEqual({p for p, _ in rates},
                         {"lru", "lfu", "lfru", "score", "learned", "pin", "belady"})
        for policy in ("lru", "lfu", "lfru", "score", "learned", "pin"):
            for slots in (4, 8, 16):
                self.assertLessEqual(rates[policy, slots], rates["belady", slots])
        for r in got["results"]:
            if r["slots"] == 16:
                self.assertEqual(r["misses"], r["first"])
        table = self.good("simulate", trace, "--policy", "lru").text().splitlines()
        self.assertEqual(len(table), 2)
        self.assertIn("8 (50%)", table[0])
        self.bad(2, "fifo", "simulate", trace, "--policy", "fifo")
        self.bad(2, "--ram and --model", "simulate", trace, "--ram", "1G")
        one = self.good("simulate", trace, "--ram", "1G", "-m", MIXTURE, "--json").json()
        self.assertEqual({r["slots"] for r in one["results"]}, {16})

    def test_pins(self):
        trace = self.folder / "x.trace"
        text = self.good(*self.run_args, "--trace", trace).out
        result = self.good(*self.run_args, "--ram", f"{self.least() + 1}M",
                           "--cache-trace", trace)
        self.assertEqual(result.out, text)
        self.assertIn("; pin, ", result.err)

    def test_plan(self):
        trace = self.folder / "x.trace"
        self.good(*self.run_args, "--trace", trace)
        plan = self.good("plan", MIXTURE, "--ram", "1G", "--json").json()
        self.assertEqual(plan["hit_rate"], 1.0)  # all experts fit
        self.assertEqual(plan["limit"], "processor")
        self.assertGreater(plan["tokens_per_second"], 0)
        text = self.good("plan", MIXTURE, "--ram", "1G", "--trace", trace).text()
        self.assertIn("the limit is the", text)
        self.bad(1, "the smallest budget is", "plan", MIXTURE, "--ram", "1M")
        self.bad(2, "--ram", "plan", MIXTURE)


if __name__ == "__main__":
    unittest.main()
