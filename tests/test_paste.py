"""Faces put back: where they came from, nothing else touched, no seam; against closed forms and the intact photos."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import binary_dilation

from ex5lib import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.degradations.unknown import UnknownColors
from ex5lib.errors import SettingError
from ex5lib.faces.alignment import AlignedFace, align_face, crop_quad, load_face
from ex5lib.faces.landmarks import aligned_landmarks
from ex5lib.images.tensors import from_uint8, to_uint8
from ex5lib.restoration.metrics import psnr
from ex5lib.restoration.paste import paste, replaced_share

GREY = Grayscale()
MOUTH, HAIR = np.s_[..., 140:170, 205:245], np.s_[..., 28:60, 200:250]  # of the astronaut's photo


@pytest.fixture(scope="module")
def face(astronaut) -> AlignedFace:
    """The astronaut's, in a crop of little more than its own size."""
    return load_face(astronaut, size=256)


def _picture(root, name: str) -> Image.Image:
    return Image.open(root / "data" / name).convert("RGB")


def _case(root, name: str) -> AlignedFace:
    if name == "turned":
        return align_face(_picture(root, "astronaut.png").rotate(20, Image.Resampling.BICUBIC, expand=True), size=512)
    if name == "cut":
        face = align_face(_picture(root, "president.jpg").crop((70, 40, 460, 500)), size=512)
        assert face.quad.min() < -20
        return face
    if name == "small":
        face = align_face(_picture(root, "vice-president.jpg").resize((160, 186), Image.Resampling.LANCZOS), size=512)
        assert np.linalg.norm(face.quad[3] - face.quad[0]) < 130
        return face
    return align_face(root / "data" / name)


def _in_photo(share: torch.Tensor, face: AlignedFace) -> torch.Tensor:
    """A map of the crop [1, 1, S, S] as it lies in the photo, computed in complex numbers and sampled by PyTorch."""
    height, width = face.photo.shape[2:]
    y, x = np.mgrid[:height, :width]
    origin, right = (complex(*face.quad[k]) for k in (0, 3))
    place = (x + 1j * y - origin) / (right - origin) * 2 - (1 + 1j)  # the crop from −1 − i to 1 + i
    grid = torch.from_numpy(np.stack([place.real, place.imag], axis=2))[None].float()
    return F.grid_sample(share, grid, align_corners=False)


def _share_in_photo(face: AlignedFace, result: torch.Tensor, degradation: torch.nn.Module) -> torch.Tensor:
    return _in_photo(replaced_share(face, result, degradation), face)


def _same_beyond_the_crop(done: torch.Tensor, face: AlignedFace) -> bool:
    away = _in_photo(torch.ones(1, 1, 256, 256), face).expand_as(done) == 0
    return torch.equal(done[away], face.photo[away])


def _saved(image: torch.Tensor) -> torch.Tensor:
    return from_uint8(to_uint8(image))


@pytest.mark.parametrize("name", ["officer.jpg", "turned", "cut", "small"])
def test_a_face_put_back_undegraded_leaves_the_photo_as_it_was(root, name):
    face = _case(root, name)
    done = _saved(paste(face.photo, [(face, face.image, Identity())]))
    share = _share_in_photo(face, face.image, Identity())
    outside = (share == 0).expand_as(done)
    assert torch.equal(done[outside], face.photo[outside])
    assert psnr(done, face.photo, ((share > 0) & (share < 1)).float()) > 35
    assert psnr(done, face.photo, (share == 1).float()) > 33
    # The face is in it, from the chin (8) and the temples (0, 16) to above the brows, and hair and shoulders are not.
    side = np.linalg.norm(face.quad[3] - face.quad[0])
    forehead = face.landmarks[[19, 24]] + 0.05 * (face.quad[0] - face.quad[1])
    x, y = np.concatenate([face.landmarks, forehead]).round().astype(int).T
    assert share[0, 0, y, x].min() > 0.6
    assert (0.2 < share.sum() / side**2 < 0.5) or name == "cut"


def test_the_seam_is_soft_and_lies_around_both_chins(face):
    lower = face.image.roll(12, 2)
    share = replaced_share(face, lower, Identity())
    for image in (face.image, lower):
        x, y = (aligned_landmarks(image)[3:14] * 256).round().astype(int).T
        assert share[0, 0, y, x].min() > 0.9
    assert max(share.diff(dim=axis).abs().max() for axis in (2, 3)) < 0.25
    assert share[..., [0, -1], :].max() == share[..., [0, -1]].max() == 0


# A rotated square that is larger than its crop, and one that is smaller.
@pytest.mark.parametrize(("side", "size", "reach"), [(300, 128, 13), (150, 512, 6)])
def test_a_hole_is_filled_with_what_lies_there(side, size, reach):
    centre, half = complex(203.3, 188.6), side / 2 * np.exp(0.4j)

    def scene(place):  # what photo and result show at a place x + iy in px of the photo
        return torch.stack([0.7 * (place.real / 9 + c).sin() * (place.imag / 13 - c).cos() for c in range(3)])[None]

    def hole(place):
        return ((place.real - centre.real).abs() < side / 5) & ((place.imag - centre.imag).abs() < side / 8)

    def crop(n):  # the places of a crop's pixels
        line = (torch.arange(n) + 0.5) / n * 2 - 1
        return centre + half * torch.complex(*torch.meshgrid(line, line, indexing="xy"))

    quad = np.array([(z.real, z.imag) for z in centre + half * np.array([-1 - 1j, -1 + 1j, 1 + 1j, 1 - 1j])])
    photo = torch.complex(*torch.meshgrid(torch.arange(420.0), torch.arange(380.0), indexing="xy"))
    damaged = torch.where(hole(photo), torch.tensor(1.0), scene(photo))
    face = AlignedFace(crop_quad(damaged, quad, size), None, quad, damaged, (), 0)
    done = paste(damaged, [(face, scene(crop(size)), Inpaint(mask=hole(crop(512)).float()))])
    assert (done - scene(photo)).abs().max() < 0.03
    around = torch.from_numpy(binary_dilation(hole(photo).numpy(), np.ones((2 * reach + 1, 2 * reach + 1))))
    assert torch.equal(done[:, :, ~around], damaged[:, :, ~around])


def test_of_a_scratch_nothing_is_left(astronaut):
    intact, scratch = astronaut.photo, torch.zeros(1, 1, 512, 512)
    scratch[:, :, 40:180, 222:230] = 1
    mask = (astronaut.crop(scratch.expand(-1, 3, -1, -1) * 2 - 1)[:, :1] + 1) / 2
    damaged = torch.where(scratch > 0, torch.tensor(1.0), intact)
    face = replace(astronaut, photo=damaged, image=astronaut.crop(damaged))
    done = _saved(paste(damaged, [(face, astronaut.image, Inpaint(mask=mask))]))
    near = F.max_pool2d(scratch, 11, 1, 5)
    assert psnr(done, intact, near) > 33
    assert psnr(done, intact, near - scratch) > 35


def test_a_large_result_is_antialiased_in_a_small_face(face):
    y, x = torch.meshgrid(torch.arange(1024), torch.arange(1024), indexing="ij")
    checks = (((x + y) % 2) * 2.0 - 1).expand(1, 3, -1, -1)
    grey = torch.zeros_like(face.photo)
    done = paste(grey, [(replace(face, photo=grey, image=grey[:, :, :256, :256]), checks, Inpaint(64, 64, 128, 128))])
    assert (done != grey).any()
    assert done.abs().max() < 0.02


def test_colours_are_matched_at_the_seam_whatever_else_is_shown_there(face):
    plain = paste(face.photo, [(face, face.image, Identity())])
    cast = torch.tensor([0.2, -0.15, 0.1]).view(1, 3, 1, 1)
    assert psnr(paste(face.photo, [(face, (face.image + cast).clamp(-1, 1), Identity())]), plain) > 38
    # A third of the seam, down the left cheek, shows something else: a black curtain.
    other = face.image.clone()
    other[:, :, 75:225, :75] = -1
    middle = _in_photo(torch.zeros(1, 1, 256, 256).index_fill(3, torch.arange(100, 175), 1), face)
    share = _share_in_photo(face, face.image, Identity())
    assert psnr(paste(face.photo, [(face, other, Identity())]), plain, middle * share) > 38


def test_a_grey_photo_gets_colours_and_keeps_its_luma(face):
    photo = _saved(GREY(face.photo))
    grey = replace(face, photo=photo, image=GREY(face.image))
    brighter = face.image * 0.8 + 0.15  # the result's luma does not count
    done = paste(photo, [(grey, brighter, GREY)])
    assert (GREY(done) - photo).abs().max() < 0.01
    chroma = (face.photo - GREY(face.photo)) * 0.8
    for place in (MOUTH, HAIR):
        assert psnr((done - photo)[place], chroma[place]) > 33
    assert _same_beyond_the_crop(done, grey)


@pytest.mark.parametrize("more", [[], [Inpaint(64, 64, 40, 60)]], ids=["alone", "with a hole"])
def test_a_faded_photo_gets_its_colours_and_its_contrast_back_on_the_head(face, more):
    fading = UnknownColors()
    fading.matrix.data = torch.tensor([[0.6, 0.2, 0.1], [0.1, 0.5, 0.1], [0.1, 0.2, 0.35]])
    fading.shift.data = torch.tensor([0.15, 0.05, -0.05])
    with torch.no_grad():
        faded = replace(face, photo=_saved(fading(face.photo)), image=fading(face.image).clamp(-1, 1))
    made = GaussianBlur(9)(face.image)  # the detail of the result does not count
    done = paste(faded.photo, [(faded, made, torch.nn.Sequential(fading, *more) if more else fading)])
    for place in (MOUTH, HAIR):
        assert psnr(done[place], face.photo[place]) > 33
    assert _same_beyond_the_crop(done, faded)


class GreyWithHole(torch.nn.Module):
    """A degradation of a user's own."""

    def __init__(self, *, exact: bool):
        super().__init__()
        self.hole = Inpaint(64, 64, 40, 60)
        if exact:
            self.composite = lambda photo, made: self.hole.composite(GREY.composite(photo, made), made)

    def forward(self, image):
        return self.hole(GREY(image))


@pytest.mark.parametrize("exact", [True, False])
def test_what_else_a_grey_photo_lacks_is_replaced_in_colour(face, exact):
    """A brownish print with a hole: the colours found are not taken for a cast, nor is the brown kept."""
    brown = torch.tensor([0.1, 0.0, -0.1]).view(1, 3, 1, 1)
    photo, image = ((GREY(each) * 0.8 + brown).clamp(-1, 1) for each in (face.photo, face.image))
    print_, degradation, made = replace(face, photo=photo, image=image), GreyWithHole(exact=exact), face.image * 0.8
    share = _share_in_photo(print_, made, degradation)
    done = paste(photo, [(print_, made, degradation)])
    assert psnr(done, face.photo * 0.8, (share == 1).float()) > 33
    chin = tuple(face.landmarks[57].round().astype(int))[::-1]
    assert (share[0, 0][chin] == 1) != exact  # what is known exactly is kept


@pytest.fixture(scope="module")
def group(root) -> list[AlignedFace]:
    """Three of the samples side by side, close together; the faces from left to right."""
    boxes = {
        "astronaut.png": ((140, 0, 320, 260), 1.0), "president.jpg": ((60, 0, 400, 460), 0.5),
        "vice-president.jpg": ((120, 50, 560, 640), 0.4),
    }  # fmt: skip
    sheet, left = Image.new("RGB", (526, 260), (90, 90, 90)), 0
    for name, (box, scale) in boxes.items():
        one = _picture(root, name).crop(box)
        one = one.resize((round(one.width * scale), round(one.height * scale)), Image.Resampling.LANCZOS)
        sheet.paste(one, (left, 260 - one.height))
        left += one.width
    faces = [align_face(sheet, face=k, size=256) for k in range(3)]
    return sorted(faces, key=lambda face: face.quad[:, 0].mean())


def test_every_face_of_a_group_photo_is_replaced_and_nothing_else(group):
    photo, blur = group[0].photo, GaussianBlur(41)
    patches = [(face, blur(face.image), blur) for face in group]
    done = paste(photo, patches)
    shares = [_share_in_photo(*patch) for patch in patches]
    for share in shares:
        assert psnr(done, photo, (share == 1).float()) < 28
    outside = (sum(shares) == 0).expand_as(photo)
    assert torch.equal(done[outside], photo[outside])


def test_of_a_grey_group_each_face_gets_its_own_colours(group):
    photo = GREY(group[0].photo)
    tints = torch.tensor([[0.2, 0, -0.2], [-0.2, 0.1, 0.0], [0.1, -0.1, 0.3]]).view(3, 1, 3, 1, 1)
    tints = tints - GREY(tints.flatten(0, 1)).view_as(tints)
    patches = [
        (replace(face, photo=photo, image=GREY(face.image)), GREY(face.image) * 0.5 + tint, GREY)
        for face, tint in zip(group, tints, strict=True)
    ]
    done = paste(photo * 0.5, patches)
    for face, tint in zip(group, tints, strict=True):
        x, y = face.landmarks[17:].round().astype(int).T  # brows, nose, eyes, mouth
        found = (done - photo * 0.5)[0, :, y, x]
        assert (found - tint.view(3, 1)).abs().max() < 0.04
    torch.testing.assert_close(paste(photo * 0.5, patches[::-1]), done)


def test_where_two_crops_overlap_each_face_keeps_its_colours(face):
    photo = GREY(face.photo) * 0.5
    left = replace(face, photo=photo, image=GREY(face.image) * 0.5)
    right = replace(left, quad=face.quad + 0.35 * (face.quad[3] - face.quad[0]))
    tint = torch.tensor([0.2, -0.05, -0.3]).view(1, 3, 1, 1)
    tint = tint - GREY(tint)
    patches = [(left, left.image + tint, GREY), (right, left.image - tint, GREY)]
    x, y = face.landmarks[33].round().astype(int)  # below the nose, well inside of the other's crop
    for order in (patches, patches[::-1]):
        assert ((paste(photo, order) - photo)[0, :, y, x] - tint.flatten()).abs().max() < 0.03


def test_a_photo_of_another_size_is_refused(face):
    with pytest.raises(SettingError, match="512 × 500 px, but the face was found in one of 512 × 512"):
        paste(face.photo[:, :, :500], [(face, face.image, Identity())])
    with pytest.raises(SettingError, match="An image tensor is"):
        paste(face.photo, [(face, face.image[0], Identity())])
