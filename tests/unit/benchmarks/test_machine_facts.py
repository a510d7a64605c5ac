from benchmarks.machine_facts import cpu_flags, cpu_name, machine_facts

CPUINFO = "processor\t: 0\nmodel name\t: AMD EPYC 9B14\nflags\t\t: fpu avx2 avx512f avx512_bf16 sse\n\nprocessor\t: 1\n"


def test_name_and_telling_instructions_come_from_cpuinfo():
    assert cpu_name(CPUINFO) == "AMD EPYC 9B14"
    assert cpu_flags(CPUINFO) == ["avx2", "avx512f", "avx512_bf16"]
    assert cpu_flags("Features\t: fp asimd bf16\n") == ["asimd", "bf16"]
    assert (cpu_name(""), cpu_flags("")) == ("", [])


def test_versions_and_cores_are_said():
    found = machine_facts()
    assert found["cores"] > 0
    assert found["torch"].count(".") >= 2
    assert found["cpu"]
