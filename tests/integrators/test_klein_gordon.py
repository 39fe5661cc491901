"""Klein-Gordon fields: exact solutions, conservation, orders, reversal, restarts, boundaries, refusals."""

import math
import warnings

import numpy as np
import pytest

from sciml.integrators import AbsorbingLayer, FieldRun, KleinGordon, named_potential, user_potential
from sciml.integrators.solitons import breather, kink, kink_antikink, periodic_linear_wave
from sciml.integrators.splitting import SCHEMES

PHI4 = named_potential("phi4")
SINE_GORDON = named_potential("sine_gordon")


def collision(boundary="periodic", velocity=0.3, length=100, num_x=512, **settings):
    solver = KleinGordon("phi4", length, num_x=num_x, boundary=boundary, **settings)
    return solver, *kink_antikink(PHI4, solver.space.coordinates[0], velocity=velocity, separation=20)


# --- exact solutions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["stormer_verlet", "blanes_moan_6"])
def test_linear_waves_are_exact_with_the_exponential_splitting(scheme):
    potential = named_potential("linear", m=1.3)
    solver = KleinGordon(potential, 60, num_x=512, exponential=True, scheme=scheme, dt=0.5)
    x = solver.space.coordinates[0]
    phi, pi = np.exp(-(x**2) / 4), 0.3 * np.exp(-((x - 2) ** 2))
    run = solver.run(phi, pi, time=50, frames=11)
    exact = periodic_linear_wave(phi, pi, length=60, mass=1.3, t=50)
    assert np.abs(run.phi[-1] - exact[0]).max() < 1e-13
    assert np.abs(run.pi[-1] - exact[1]).max() < 1e-13
    assert run.energy_error < 1e-13
    assert run.topological_charge is None


@pytest.mark.parametrize("boundary", ["neumann", "antiperiodic", "odd"])
def test_a_kink_at_rest_stays(boundary):
    solver = KleinGordon(PHI4, 60, num_x=256, boundary=boundary, scheme="stormer_verlet", dt=0.05)
    phi, pi = kink(PHI4, solver.space.coordinates[0])
    run = solver.run(phi, pi, time=200, frames=3)
    assert np.abs(run.phi[-1] - phi).max() < (1e-13 if boundary == "odd" else 1e-11)
    assert np.abs(run.topological_charge - 1).max() < 1e-12


def test_a_boosted_kink_is_where_it_should_be():
    solver = KleinGordon(PHI4, 60, num_x=1024, boundary="neumann", dt=0.02)
    x = solver.space.coordinates[0]
    run = solver.run(*kink(PHI4, x, velocity=0.9, center=-9), time=20, frames=3)
    exact = kink(PHI4, x, t=20, velocity=0.9, center=-9)
    assert np.abs(run.phi[-1] - exact[0]).max() < 1e-9
    assert run.energy[-1] == pytest.approx(0.9428090415820634 / math.sqrt(1 - 0.81), rel=1e-10)
    assert run.momentum[-1, 0] == pytest.approx(0.9 * run.energy[-1], rel=1e-8)


@pytest.mark.parametrize("boundary", ["periodic", "even"])
@pytest.mark.parametrize("exponential", [False, True])
def test_a_breather_after_a_period(boundary, exponential):
    scheme = "kahan_li_8" if exponential else "blanes_moan_6"
    solver = KleinGordon(SINE_GORDON, 80, num_x=256, boundary=boundary, scheme=scheme, dt=0.1, exponential=exponential)
    x = solver.space.coordinates[0]
    run = solver.run(*breather(SINE_GORDON, x, frequency=0.5), time=5 * math.pi, frames=6)
    for t, phi in zip(run.t, run.phi, strict=True):
        assert np.abs(phi - breather(SINE_GORDON, x, frequency=0.5, t=t)[0]).max() < 2e-8
    assert run.energy[0] == pytest.approx(13.8564064606, abs=1e-9)
    if boundary == "periodic":  # which has a point at x = 0
        assert run.phi.max() == pytest.approx(4 * math.pi / 3, abs=1e-8)


# --- conservation and order -------------------------------------------------------------------------------------------


def test_energy_of_a_collision_with_ten_thousand_forces():
    """Verlet 2.8e-5, Yoshida-8 and Kahan-Li-8 below 1e-8, Blanes-Moan below 1e-10, at equal cost."""
    errors = {}
    for name, limit in {"stormer_verlet": 4e-5, "kahan_li_8": 6e-9, "yoshida_8": 8e-9, "blanes_moan_6": 1e-10}.items():
        solver, phi, pi = collision("even", length=200, num_x=1024, scheme=name)
        solver.dt = 100 / (10000 // solver.scheme.forces_per_step)
        errors[name] = solver.run(phi, pi, time=100, frames=51).energy_error
        assert errors[name] < limit
    assert errors["stormer_verlet"] > 1e-5  # so that the limits mean something


@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_orders_on_a_field(scheme, exponential):
    if exponential and scheme.needs_quadratic_kinetic:
        with pytest.raises(ValueError, match="loses its order"):
            KleinGordon("phi4", 30, num_x=64, exponential=True, scheme=scheme)
        return
    # The step with which errors are neither lost in rounding nor beyond the leading term.
    first = {2: 80, 4: 60, 6: 40, 8: 20}[scheme.order] * (2 if scheme.name == "yoshida_8" else 1)
    ends = []
    for steps in (first, round(first * 1.4), 2 * first, 8 * first if scheme.order < 8 else 4 * first):
        solver = KleinGordon("phi4", 30, num_x=64, exponential=exponential, scheme=scheme, dt=6 / steps)
        x = solver.space.coordinates[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ends.append(solver.run(1 - np.exp(-(x**2) / 8), time=6, frames=2))
    steps = np.array([run.steps for run in ends])
    errors = np.array([np.abs(run.phi[-1] - ends[-1].phi[-1]).max() for run in ends[:-1]])
    errors /= 1 - (steps[:-1] / steps[-1]) ** float(scheme.order)
    order = -np.polyfit(np.log(steps[:-1]), np.log(errors), 1)[0]
    assert order == pytest.approx(scheme.order, abs=0.1)


def test_momentum_is_conserved_without_aliasing():
    """Twice the points make the cubic force exact, and with it translations a symmetry of what is integrated."""
    drift = {}
    for dealias in (False, True):
        solver = KleinGordon("phi4", 40, num_x=64, dealias=dealias, dt=0.02)
        x = solver.space.coordinates[0]
        with np.errstate(all="raise"):
            run = solver.run(1 - np.exp(-((x - 3) ** 2)), 0.8 * np.exp(-(x**2) / 2) * x, time=20, frames=21)
        drift[dealias] = np.abs(run.momentum - run.momentum[0]).max()
        assert run.energy_error < 1e-8
    assert drift[True] < 1e-9 < 1e-6 < drift[False]


def test_dealiasing_of_a_sine_is_not_exact_and_says_so():
    with pytest.warns(UserWarning, match="cannot remove"):
        KleinGordon("sine_gordon", 40, num_x=64, dealias=True)


# --- reversal and restarts --------------------------------------------------------------------------------------------


def test_forward_and_back():
    solver, phi, pi = collision()
    there = solver.run(phi, pi, time=100, frames=2)
    back = solver.run(there.phi[-1], there.pi[-1], time=-100, frames=2)
    assert np.abs(back.phi[-1] - phi).max() < 1e-11  # chaos between the kinks magnifies rounding
    assert back.t[-1] == -100


@pytest.mark.parametrize("boundary", ["periodic", "even"])
def test_forward_and_back_in_fixed_point_is_exact(boundary):
    solver, phi, pi = collision(boundary, fixed_point=True)
    there = solver.run(phi, pi, time=50, frames=6)
    turned = solver.resume(there.reversed(), frames=5)
    assert np.array_equal(turned.phi[-1], there.phi[0])
    assert np.array_equal(turned.pi[-1], there.pi[0])
    assert not np.array_equal(there.phi[-1], there.phi[0])
    assert there.energy_error < 1e-8


@pytest.mark.parametrize(
    "settings",
    [{}, {"compensated": True}, {"fixed_point": True}, {"scheme": "kahan_li_8", "exponential": True, "dt": 0.05}],
    ids=["plain", "compensated", "fixed_point", "exponential"],
)
def test_a_run_continues_bit_by_bit_from_its_file(settings, tmp_path):
    solver, phi, pi = collision(**settings)
    whole = solver.run(phi, pi, time=10, frames=11)
    part = solver.run(phi, pi, time=4, frames=5).with_notes({"seed": 3})
    part.save(tmp_path / "part.nc")
    loaded = FieldRun.load(tmp_path / "part.nc")
    joined = solver.resume(loaded, frames=6)
    for name in ("t", "phi", "pi", "energy", "momentum", "topological_charge", "absorbed"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name)), name
    assert joined.notes == {"seed": 3}
    other = collision(scheme="yoshida_4")[0]
    with pytest.raises(ValueError, match="scheme: "):
        other.resume(loaded, frames=1)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    import xarray

    solver, phi, pi = collision()
    run = solver.run(phi, pi, time=1, frames=2)
    run.save(tmp_path / "run.nc")
    before = (tmp_path / "run.nc").read_bytes()

    def full(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xarray.Dataset, "to_netcdf", full)
    with pytest.raises(OSError, match="No space left"):
        run.save(tmp_path / "run.nc")
    assert (tmp_path / "run.nc").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.nc"]
    with pytest.raises(ValueError, match=r"ends in \.nc"):
        run.save(tmp_path / "run.txt")


# --- boundaries -------------------------------------------------------------------------------------------------------


def wave_packet(x, frequency, center=0.0):
    """Around φ = 0 of the linear potential with m = 1, running to the right."""
    k = math.sqrt(frequency**2 - 1)
    envelope = np.exp(-((x - center) ** 2) / (2 * 8.0**2))
    return 1e-2 * envelope * np.cos(k * (x - center)), 1e-2 * envelope * frequency * np.sin(k * (x - center))


@pytest.mark.parametrize("frequency", [1.5, 2.0, 3.0])
def test_the_absorbing_layer_reflects_less_than_1e_4(frequency):
    solver = KleinGordon("linear", 160, num_x=512, boundary="absorbing", layer=AbsorbingLayer(width=25))
    x = solver.space.coordinates[0]
    phi, pi = wave_packet(x, frequency)
    # Slow parts of the packet are still on their way when the reflected wave would be back: a longer, open box is the
    # measure of what should be there.
    run = solver.run(phi, pi, time=160, frames=161)
    free = KleinGordon("linear", 640, num_x=2048, exponential=True, boundary="neumann", dt=1.0)
    open_run = free.run(*wave_packet(free.space.coordinates[0], frequency), time=160, frames=161)
    inner = np.abs(x) < 45
    start = (free.space.shape[0] - 512) // 2
    reflected = np.abs(run.phi - open_run.phi[:, start : start + 512])[:, inner].max()
    assert reflected < 1e-4 * np.abs(phi).max()
    assert run.energy[-1] < 0.05 * run.energy[0]


def test_the_energy_lost_is_the_flux_into_the_layer():
    solver = KleinGordon("linear", 160, num_x=1024, boundary="absorbing")
    x = solver.space.coordinates[0]
    run = solver.run(*wave_packet(x, 2.0), time=160, frames=1601)
    assert run.energy_error < 1e-6  # with what the layer took
    right, left = np.searchsorted(x, 44.9), np.searchsorted(x, -44.9)
    dx = x[1] - x[0]
    slope = (
        8 * (np.roll(run.phi, -1, 1) - np.roll(run.phi, 1, 1)) - np.roll(run.phi, -2, 1) + np.roll(run.phi, 2, 1)
    ) / (12 * dx)
    flux = -(run.pi * slope)
    through = np.trapezoid(flux[:, right] - flux[:, left], run.t)
    inside = slice(left, right)
    density = 0.5 * (run.pi**2 + slope**2 + run.phi**2)
    left_inside = dx * density[-1, inside].sum()
    assert through + left_inside == pytest.approx(run.energy[0], rel=1e-3)
    assert run.absorbed[-1] == pytest.approx(run.energy[0] - run.energy[-1], rel=1e-5)


# --- two dimensions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_dispersion_on_a_plane(boundary):
    """ω² = k_x² + k_y² + m² of a standing wave."""
    potential = named_potential("linear", m=1.2)
    solver = KleinGordon(potential, (20, 12), num_x=(32, 24), boundary=boundary, dt=0.02)
    x, y = np.meshgrid(*solver.space.coordinates, indexing="ij")
    kx, ky = 2 * np.pi * 3 / 20, 2 * np.pi * 2 / 12
    shape = np.cos(kx * (x + 10)) * np.cos(ky * (y + 6))
    run = solver.run(0.1 * shape, time=30, frames=31)
    omega = math.sqrt(kx**2 + ky**2 + 1.44)
    exact = 0.1 * np.cos(omega * run.t)[:, None, None] * shape
    assert np.abs(run.phi - exact).max() < 1e-8
    assert run.energy_error < 1e-8
    assert run.topological_charge is None
    assert run.momentum.shape == (31, 2)


def test_a_plane_wave_has_momentum_along_its_direction():
    potential = named_potential("linear")
    solver = KleinGordon(potential, (20, 10), num_x=(32, 16), exponential=True, scheme="stormer_verlet", dt=0.5)
    x, y = np.meshgrid(*solver.space.coordinates, indexing="ij")
    k = np.array([2 * np.pi * 2 / 20, -2 * np.pi / 10])
    omega = math.sqrt(k @ k + 1)
    phase = k[0] * x + k[1] * y
    run = solver.run(np.cos(phase), omega * np.sin(phase), time=10, frames=3)
    assert run.momentum[-1] == pytest.approx(run.energy[-1] * k / omega, rel=1e-12)
    assert np.abs(run.phi[-1] - np.cos(phase - omega * 10)).max() < 1e-12


def test_a_strip_of_a_plane_is_a_line():
    """A kink and an antikink that do not depend on y move as in one dimension; dealiased, too."""
    line, phi, pi = collision(num_x=256, length=60, dt=0.05, dealias=True)
    plane = KleinGordon("phi4", (60, 4), num_x=(256, 8), dt=0.05, dealias=True)
    one = line.run(phi, pi, time=20, frames=3)
    two = plane.run(np.repeat(phi[:, None], 8, 1), np.repeat(pi[:, None], 8, 1), time=20, frames=3)
    assert np.abs(two.phi[-1] - one.phi[-1][:, None]).max() < 1e-9
    assert two.energy[-1] == pytest.approx(4 * one.energy[-1], rel=1e-9)


# --- potentials -------------------------------------------------------------------------------------------------------


def test_a_user_potential_is_the_named_one():
    own = user_potential(lambda p: 0.25 * (p * p - 1) ** 2, lambda p: p * (p * p - 1), spacing=2, degree=3)
    phi, pi = kink_antikink(PHI4, KleinGordon(PHI4, 100, num_x=512).space.coordinates[0], velocity=0.3, separation=20)
    runs = [KleinGordon(potential, 100, num_x=512).run(phi, pi, time=10, frames=3) for potential in (PHI4, own)]
    assert np.abs(runs[0].phi - runs[1].phi).max() < 1e-12
    assert runs[1].topological_charge[0] == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="not the derivative"):
        user_potential(lambda p: 0.25 * (p * p - 1) ** 2, lambda p: p * (p * p + 1))
    with pytest.raises(ValueError, match="cannot compile"):
        user_potential(lambda p: {}[p], lambda p: p.nothing)


@pytest.mark.parametrize("name", ["linear", "phi4", "sine_gordon", "double_sine_gordon"])
def test_slopes_are_derivatives_and_vacua_have_masses(name):
    potential = named_potential(name, m=1.3, lam=0.8, v=0.9)
    phi, h = np.linspace(-2, 3, 41), 1e-4
    numeric = (potential.value(phi + h) - potential.value(phi - h)) / (2 * h)
    assert np.abs(potential.slope(phi) - numeric).max() < 1e-6
    vacuum = 0.9 if name == "phi4" else 0.0
    mass = {"phi4": math.sqrt(2 * 0.8) * 0.9, "double_sine_gordon": math.sqrt(1.69 + 0.2)}.get(name, 1.3)
    assert potential.is_vacuum(vacuum)
    assert potential.mass(vacuum) == pytest.approx(mass, rel=1e-9)
    if potential.spacing:
        assert potential.value(vacuum - potential.spacing) == pytest.approx(potential.value(vacuum), abs=1e-12)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_kink_on_a_periodic_grid_is_refused_with_the_remedies():
    solver = KleinGordon(PHI4, 60, num_x=256)
    phi, _ = kink(PHI4, solver.space.coordinates[0])
    with pytest.raises(ValueError, match=r"does not fit a periodic grid.*neumann.*antiperiodic.*antikink"):
        solver.run(phi, time=1)
    assert solver.run(phi, time=0.1, frames=2, check=False).energy[0] > 10


def test_the_false_vacuum_is_refused():
    solver = KleinGordon(PHI4, 100, num_x=512)
    phi, pi = kink_antikink(PHI4, solver.space.coordinates[0], velocity=0.3, separation=20)
    with pytest.raises(ValueError, match="false vacuum"):
        solver.run(phi + 1, pi, time=1)


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        ({"boundary": "antiperiodic"}, lambda x: np.cos(x) + 0 * x + 0.5, "antiperiodic boundary needs"),
        ({"boundary": "even"}, lambda x: np.tanh(x / 1.4), "not even in x"),
        ({"boundary": "neumann"}, lambda x: 0.5 + 0 * x, "has no minimum"),
        ({}, lambda x: np.nan * x, "not finite"),
        ({"dt": 1.0}, lambda x: 1 + 0 * x, "beyond the stability"),
    ],
)
def test_fields_that_are_refused(settings, field, message):
    solver = KleinGordon(PHI4, 60, num_x=256, **settings)
    with pytest.raises(ValueError, match=message):
        solver.run(field(solver.space.coordinates[0]), time=2, frames=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smooth": True}, "smooth"),
        ({"fixed_point": True, "compensated": True}, "fixed_point"),
        ({"boundary": "absorbing", "layer": AbsorbingLayer(width=40)}, "do not fit"),
        ({"dt": -1.0}, "dt=-1.0"),
        ({"scheme": "verlet"}, "did you mean stormer_verlet"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        KleinGordon(PHI4, 60, num_x=256, **settings)
    with pytest.raises(TypeError, match="lambda_"):
        named_potential("phi4", lambda_=1.0)


def test_a_potential_without_a_bottom_is_reported():
    falling = user_potential(lambda p: -(p**4), lambda p: -4 * p**3, name="falling")
    solver = KleinGordon(falling, 20, num_x=32, dt=0.01)
    with pytest.raises(ValueError, match="stopped being a number"):
        solver.run(1 + 0.1 * np.cos(np.pi / 10 * solver.space.coordinates[0]), time=50, frames=11, check=False)


def test_exponential_splitting_warns_of_resonances_and_long_steps():
    solver, phi, pi = collision(exponential=True, scheme="stormer_verlet", dt=0.25)
    with pytest.warns(UserWarning, match="resonate"):
        solver.run(phi, pi, time=5, frames=2)
    smooth = KleinGordon("phi4", 100, num_x=512, exponential=True, scheme="stormer_verlet", dt=0.25, smooth=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = smooth.run(1 - 0.3 / np.cosh(smooth.space.coordinates[0]), time=200, frames=101)
    assert run.energy_error < 0.1
    long, phi, pi = collision(exponential=True, scheme="stormer_verlet", dt=1.0, smooth=True)
    with pytest.warns(UserWarning, match="long for the nonlinear force"):
        long.run(phi, pi, time=5, frames=2)
