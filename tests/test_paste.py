"""Faces put back: where they came from, nothing else touched, no seam; against closed forms and the intact photos."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import binary_dilation

from ex5lib import Downsample, GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.degradations.unknown import UnknownColors
from ex5lib.errors import SettingError
from ex5lib.faces.alignment import AlignedFace, align_face, crop_quad, load_face
from ex5lib.faces.landmarks import aligned_landmarks
from ex5lib.images.tensors import from_uint8, resize_photo, to_uint8
from ex5lib.restoration.enlargement import enlargement, put_back
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


CASES = {
    "large": ("officer.jpg", lambda photo: photo),
    "turned": ("astronaut.png", lambda photo: photo.rotate(20, Image.Resampling.BICUBIC, expand=True)),
    "cut": ("president.jpg", lambda photo: photo.crop((70, 40, 460, 500))),
    "small": ("vice-president.jpg", lambda photo: photo.resize((160, 186), Image.Resampling.LANCZOS)),
}


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


@pytest.mark.parametrize("case", CASES)
def test_a_face_put_back_undegraded_leaves_the_photo_as_it_was(root, case):
    name, changed = CASES[case]
    face = align_face(changed(_picture(root, name)), size=512)
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
    assert (0.2 < share.sum() / side**2 < 0.5) or case == "cut"


def test_the_seam_is_soft_and_lies_around_both_chins(face):
    lower = face.image.roll(12, 2)
    for photos, result in ((face, lower), (replace(face, image=lower), face.image)):
        share = replaced_share(photos, result, Identity())
        for image in (face.image, lower):
            x, y = (aligned_landmarks(image)[3:14] * 256).round().astype(int).T
            assert share[0, 0, y, x].min() > 0.9
        assert max(share.diff(dim=axis).abs().max() for axis in (2, 3)) < 0.25
        assert share[..., [0, -1], :].max() == share[..., [0, -1]].max() == 0


# A rotated square that is larger than its crop, and one that is smaller; in an enlarged photo the last one is again.
@pytest.mark.parametrize(("side", "size", "factor", "reach"), [(300, 128, 1, 13), (150, 512, 1, 6), (150, 512, 3, 6)])
def test_a_hole_is_filled_with_what_lies_there(side, size, factor, reach):
    centre, half = complex(203.3, 188.6), side / 2 * np.exp(0.4j)

    def scene(place):  # what photo and result show at a place x + iy in px of the photo
        return torch.stack([0.7 * (place.real / 9 + c).sin() * (place.imag / 13 - c).cos() for c in range(3)])[None]

    def hole(place):
        return ((place.real - centre.real).abs() < side / 5) & ((place.imag - centre.imag).abs() < side / 8)

    def crop(n):  # the places of a crop's pixels
        line = (torch.arange(n) + 0.5) / n * 2 - 1
        return centre + half * torch.complex(*torch.meshgrid(line, line, indexing="xy"))

    quad = np.array([(z.real, z.imag) for z in centre + half * np.array([-1 - 1j, -1 + 1j, 1 + 1j, 1 - 1j])])

    def photo(n):  # the places of the pixels of a photo n times as large
        across, down = ((torch.arange(n * side) + 0.5) / n - 0.5 for side in (420, 380))
        return torch.complex(*torch.meshgrid(across, down, indexing="xy"))

    damaged = torch.where(hole(photo(1)), torch.tensor(1.0), scene(photo(1)))
    face = AlignedFace(crop_quad(damaged, quad, size), None, quad, damaged, (), 0)
    done = put_back([(face, scene(crop(size)), Inpaint(mask=hole(crop(size)).float()))], factor)
    assert (done - scene(photo(factor))).abs().max() < 0.03
    wide = 2 * reach * factor + 1
    around = torch.from_numpy(binary_dilation(hole(photo(factor)).numpy(), np.ones((wide, wide))))
    given = damaged if factor == 1 else resize_photo(damaged, 420 * factor, 380 * factor)
    assert torch.equal(done[:, :, ~around], given[:, :, ~around])


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


# Left, top, right and bottom of patches, in px: of the head, and of the curtains beside it.
@pytest.mark.parametrize(
    ("name", "head", "curtains"),
    [
        (
            "vice-president.jpg",
            [(142, 310, 160, 340), (445, 375, 455, 395), (200, 420, 240, 460)],
            [(130, 400, 160, 440), (480, 450, 510, 490)],
        ),
        (
            "president.jpg",
            [(78, 205, 90, 235), (190, 70, 260, 95), (110, 240, 140, 280)],
            [(45, 250, 62, 290), (375, 250, 395, 290)],
        ),
    ],
)
def test_the_head_of_a_grey_photo_gets_its_colours_and_the_background_beside_it_none(root, name, head, curtains):
    found = align_face(_picture(root, name), size=256)
    grey = replace(found, photo=GREY(found.photo), image=GREY(found.image))
    done = paste(grey.photo, [(grey, found.image, GREY)])
    for left, top, right, bottom in [*head, *curtains]:
        here = np.s_[..., top:bottom, left:right]
        chroma = [(image - GREY(image))[here].norm(dim=1).mean() for image in (found.photo, done)]
        if (left, top, right, bottom) in head:
            assert chroma[1] > 0.9 * chroma[0]
        else:
            assert chroma[1] < 0.12 * chroma[0]


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
    made[:, :, :35] += 0.2  # the luma of the hair stays the photo's
    share = _share_in_photo(print_, made, degradation)
    assert replaced_share(print_, made, degradation)[0, 0, 66, 66] == 1  # in the hole, beside the face
    done = paste(photo, [(print_, made, degradation)])
    assert psnr(done, face.photo * 0.8, (share == 1).float()) > 33
    chin = tuple(face.landmarks[57].round().astype(int))[::-1]
    assert (share[0, 0][chin] == 1) != exact  # what is known exactly is kept
    assert psnr(GREY(done)[HAIR], GREY(photo)[HAIR]) > 33


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


def test_two_small_faces_are_put_into_one_enlarged_photo_each_at_its_place(face):
    """Against the photo of which the small one is a thumbnail: the results are its own crops."""
    truth = torch.cat([face.photo, face.photo.flip(3)], dim=3)
    small = _saved(F.avg_pool2d(truth, 4))
    mirrored = (face.quad * (-1, 1) + (1023, 0))[[3, 2, 1, 0]]
    places = [replace(face, photo=truth, quad=quad) for quad in (face.quad, mirrored)]
    quads = [(place.quad - 1.5) / 4 for place in places]  # 4 px have their centre at 1.5
    faces = [replace(face, photo=small, quad=quad, image=crop_quad(small, quad, 256)) for quad in quads]
    patches = [
        (each, crop_quad(truth, place.quad, 256), Downsample(6)) for each, place in zip(faces, places, strict=True)
    ]
    done = put_back(patches, 4)
    plain = resize_photo(small, 1024, 512)
    assert (F.avg_pool2d(plain, 4) - small).abs().mean() < 0.02  # a pixel farther to the right, 0.035
    crops = torch.stack([_in_photo(torch.ones(1, 1, 256, 256), place) for place in places]).sum(dim=0)
    away = (crops == 0).expand_as(done)
    assert torch.equal(done[away], plain[away])
    for (each, result, D), place in zip(patches, places, strict=True):
        share = _in_photo(replaced_share(each, result, D), place)
        inside = _in_photo(torch.ones(1, 1, 256, 256), place)
        for part, gain in (((share == 1), 8), (((share == 0) & (inside == 1)), 3)):  # the face; what is around it
            assert psnr(done, truth, part.float()) > psnr(plain, truth, part.float()) + gain


def test_a_hat_that_was_not_found_stays_as_it_is_in_an_enlarged_photo(face):
    """Where the result shows something else at the photo's own pixels, its detail is not believed."""
    small = _saved(F.avg_pool2d(face.photo, 4))
    quad = (face.quad - 1.5) / 4
    small_face = replace(face, photo=small, quad=quad, image=crop_quad(small, quad, 256))
    checks = torch.cat([torch.ones(1, 3, 1, 1), -torch.ones(1, 3, 1, 1)], dim=3).repeat(1, 1, 30, 128)
    result = torch.cat([checks, face.image[:, :, 30:]], dim=2)
    done, plain = put_back([(small_face, result, Downsample(6))], 4), resize_photo(small, 512, 512)
    hat = _in_photo(torch.zeros(1, 1, 256, 256).index_fill(2, torch.arange(3, 25), 1), face)
    assert psnr(done, plain, hat) > 40


@pytest.mark.parametrize(
    ("side", "photo", "damage", "asked", "factor"),
    [
        (104, (125, 115), Downsample(2), None, 5),
        (128, (400, 300), torch.nn.Sequential(GaussianBlur(9), Downsample(2)), None, 4),
        (40, (125, 115), Downsample(6), None, 8),
        (600, (900, 900), Downsample(2), None, 1),
        (60, (2000, 3000), Downsample(4), None, 2),  # 6 million pixels become 24
        (60, (6000, 8000), Downsample(4), None, 1),  # a scan that is larger already
        (104, (125, 115), GaussianBlur(9), None, 1),
        (104, (125, 115), None, None, 1),
        (104, (125, 115), Downsample(2), 2, 2),
        (600, (900, 900), None, 3, 3),
    ],
)
def test_a_photo_grows_as_its_face_needs_it(face, side, photo, damage, asked, factor):
    quad = np.array([(0, 0), (0, side), (side, side), (side, 0)]) + 5.0
    small = replace(face, quad=quad, photo=torch.empty(1, 3, *photo, device="meta"))
    assert enlargement(small, damage, asked) == factor
    assert enlargement(replace(small, landmarks=None), damage, asked) == 1
    if photo == (2000, 3000):
        with pytest.raises(SettingError, match="have 54 million pixels, more than 40: enlarge it 2 times at most"):
            enlargement(small, damage, 3)


def test_a_photo_of_another_size_is_refused(face):
    with pytest.raises(SettingError, match="512 × 500 px, but the face was found in one of 512 × 512"):
        paste(face.photo[:, :, :500], [(face, face.image, Identity())])
    with pytest.raises(SettingError, match="An image tensor is"):
        paste(face.photo, [(face, face.image[0], Identity())])
