"""The paper's Table 1, as its authors publish it: images/result.jpg of the release.

The page of the release adds the rows of the teacher STB and its student, of which MAE alone is
published. "U2Net" is its small version, U2Netp.
"""

from typing import Dict, NamedTuple, Optional, Tuple

Triple = Tuple[Optional[float], ...]  # M, F and E; None where nothing is published


class Published(NamedTuple):
    """Parameters, FLOPs as the paper counts them, and M, F and E by set."""

    params: float
    flops: float
    scores: Dict[str, Triple]


SETS = ("DUTS-TE", "ECSSD", "HKU-IS", "DUT-OMRON", "PASCAL-S")

# Parameters in millions, FLOPs in billions; M, F and E on each of SETS in thousandths.
TABLE = """
  1.13  24.13  54 818 861  41 916 919  37 898 939  60 784 855  89 830 832  U2Net
  1.24   1.24  58 799 863  52 899 924  44 881 937  65 768 847  93 822 848  HVPNet
  1.33   0.60  58 795 864  50 898 930  45 880 937  65 765 847  95 819 847  SAMNet
  0.80   0.25  41 849 920  39 923 946  31 917 955  59 785 872  68 860 902  FS-SCFNet
  0.80   0.25  35 868 932  35 929 952  29 922 959  52 800 882  61 871 912  KD-SCFNet, R50
  0.80   0.30  35   -   -  30   -   -  26   -   -  54   -   -  56   -   -  KD-SCFNet, STB
 47.85  17.75  43 843 904  37 924 949  34 904 950  56 780 873  74 852 885  CPD
 68.26  49.59  40 851 904  39 923 945  32 908 954  56 786 869  76 856 876  PoolNet
 26.18  23.82  41 855 898  34 928 932  31 911 953  61 793 867  66 858 866  ITSD
128.63 136.22  40 855 903  40 925 943  33 909 953  55 791 868  71 858 882  GateNet
 29.63  26.96  39 857 908  35 929 949  31 911 957  55 793 870  66 867 893  DFI
162.38 105.34  37 860 917  33 931 953  29 917 960  56 789 873  66 860 897  MINet
 67.06  65.72  38 858 913  35 925 951  30 915 957  56 788 868  63 861 900  GCPANet
 25.54  16.43  35 867 918  33 933 946  28 918 958  53 794 876  64 865 892  F3Net
 35.53  48.44  39 854 915  35 928 953  30 914 956  51 794 876  70 857 890  PurNet
 32.50  19.25  34 869 931  33 934 954  27 918 959  50 791 876  63 867 902  MSFNet
 68.69 102.18  34 878 926  36 932 942  28 923 959  49 810 889  70 871 880  SGLKRN
 24.64  12.35  34 876 928  32 936 949  27 926 961  52 807 884  64 870 898  CTDNet
 26.15  13.15  31 887 936  31 940 955  26 928 959  47 811 880  60 872 903  SCFNet-R50
 88.16  46.74  26   -   -  23   -   -  21   -   -  45   -   -  51   -   -  SCFNet-STB
"""


def _published() -> Dict[str, Published]:
    """Read TABLE: what is published of each method, by its name."""
    rows = {}
    for line in TABLE.strip().splitlines():
        params, flops, *cells, name = line.split(maxsplit=2 + 3 * len(SETS))
        values = [None if cell == "-" else int(cell) / 1000 for cell in cells]
        scores = {data: tuple(values[3 * i : 3 * i + 3]) for i, data in enumerate(SETS)}
        rows[name] = Published(float(params) * 1e6, float(flops) * 1e9, scores)
    return rows


PUBLISHED = _published()
