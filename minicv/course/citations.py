"""The papers that the code refers to: a key for the command line, the names they have in the code, and the citation.

The first name is the one to use. "He et al., 2014" also fits "He et al. (2014)" and "He et al., ECCV 2014".
"""
from typing import NamedTuple


class Paper(NamedTuple):
    """A paper: its names in the code, and its citation."""

    names: tuple[str, ...]
    citation: str


TEXT = """
adam: Adam; Kingma and Ba
    D. P. Kingma, J. Ba: "Adam: A Method for Stochastic Optimization". ICLR 2015.
alexnet: AlexNet; Krizhevsky et al.
    A. Krizhevsky, I. Sutskever, G. E. Hinton: "ImageNet Classification with Deep Convolutional Neural Networks".
    NIPS 2012.
araujo: Araujo et al.
    A. Araujo, W. Norris, J. Sim: "Computing Receptive Fields of Convolutional Neural Networks". Distill, 2019.
batch_norm: Batch Normalization; Ioffe and Szegedy
    S. Ioffe, C. Szegedy: "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift". ICML 2015.
boundary_f: Csurka et al.
    G. Csurka, D. Larlus, F. Perronnin, F. Meylan: "What is a good evaluation measure for semantic segmentation?"
    BMVC 2013.
ciresan: Ciresan et al.
    D. C. Ciresan, A. Giusti, L. M. Gambardella, J. Schmidhuber: "Deep Neural Networks Segment Neuronal Membranes in
    Electron Microscopy Images". NIPS 2012.
coco: COCO; Lin et al.
    T.-Y. Lin et al.: "Microsoft COCO: Common Objects in Context". ECCV 2014.
conv_arithmetic: Dumoulin and Visin
    V. Dumoulin, F. Visin: "A guide to convolution arithmetic for deep learning". arXiv:1603.07285, 2016.
cubic: Keys
    R. G. Keys: "Cubic Convolution Interpolation for Digital Image Processing". IEEE Transactions on Acoustics,
    Speech, and Signal Processing 29, 1981.
deconvnet: DeconvNet; EDeconvNet; Noh et al.
    H. Noh, S. Hong, B. Han: "Learning Deconvolution Network for Semantic Segmentation". ICCV 2015.
deeplabv3: DeepLabv3; v3; Chen et al., 2017
    L.-C. Chen, G. Papandreou, F. Schroff, H. Adam: "Rethinking Atrous Convolution for Semantic Image Segmentation".
    arXiv:1706.05587, 2017.
deeplabv3plus: DeepLabv3+; v3+; Chen et al., 2018
    L.-C. Chen, Y. Zhu, G. Papandreou, F. Schroff, H. Adam: "Encoder-Decoder with Atrous Separable Convolution for
    Semantic Image Segmentation". ECCV 2018.
dropout: Srivastava et al.
    N. Srivastava et al.: "Dropout: A Simple Way to Prevent Neural Networks from Overfitting". JMLR 15, 2014.
fast_rcnn: Fast R-CNN
    R. Girshick: "Fast R-CNN". ICCV 2015.
faster_rcnn: Faster R-CNN; Ren et al.
    S. Ren, K. He, R. Girshick, J. Sun: "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
    Networks". NIPS 2015 (sections as in the journal version, TPAMI 2017).
fcn: FCN; Long et al.
    J. Long, E. Shelhamer, T. Darrell: "Fully Convolutional Networks for Semantic Segmentation". CVPR 2015.
googlenet: GoogLeNet; Szegedy et al.
    C. Szegedy et al.: "Going Deeper with Convolutions". CVPR 2015.
graph_segmentation: Felzenszwalb and Huttenlocher
    P. F. Felzenszwalb, D. P. Huttenlocher: "Efficient Graph-Based Image Segmentation". IJCV 59, 2004.
he_init: He et al., 2015
    K. He, X. Zhang, S. Ren, J. Sun: "Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
    Classification". ICCV 2015.
inception_v3: Szegedy et al., 2016
    C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna: "Rethinking the Inception Architecture for Computer
    Vision". CVPR 2016.
linear_svm: Hsieh et al.
    C.-J. Hsieh, K.-W. Chang, C.-J. Lin, S. S. Keerthi, S. Sundararajan: "A Dual Coordinate Descent Method for
    Large-scale Linear SVM". ICML 2008.
mask_rcnn: Mask R-CNN; He et al., 2017
    K. He, G. Gkioxari, P. Dollar, R. Girshick: "Mask R-CNN". ICCV 2017.
mobilenets: MobileNets; Howard et al.
    A. G. Howard et al.: "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications".
    arXiv:1704.04861, 2017.
one_weird_trick: One weird trick
    A. Krizhevsky: "One weird trick for parallelizing convolutional neural networks". arXiv:1404.5997, 2014.
panoptic: Panoptic Segmentation; Kirillov et al.
    A. Kirillov, K. He, R. Girshick, C. Rother, P. Dollar: "Panoptic Segmentation". CVPR 2019.
pspnet: PSPNet; Zhao et al.
    H. Zhao, J. Shi, X. Qi, X. Wang, J. Jia: "Pyramid Scene Parsing Network". CVPR 2017.
rcnn: R-CNN; Girshick et al.
    R. Girshick, J. Donahue, T. Darrell, J. Malik: "Rich feature hierarchies for accurate object detection and
    semantic segmentation". CVPR 2014.
resnet: ResNet; He et al., 2016
    K. He, X. Zhang, S. Ren, J. Sun: "Deep Residual Learning for Image Recognition". CVPR 2016.
selective_search: Selective search; Uijlings et al.
    J. R. R. Uijlings, K. E. A. van de Sande, T. Gevers, A. W. M. Smeulders: "Selective Search for Object
    Recognition". IJCV 104, 2013.
sgdr: Loshchilov and Hutter
    I. Loshchilov, F. Hutter: "SGDR: Stochastic Gradient Descent with Warm Restarts". ICLR 2017.
spatial_dropout: Tompson et al.
    J. Tompson et al.: "Efficient Object Localization Using Convolutional Networks". CVPR 2015.
sppnet: SPPNet; He et al., 2014
    K. He, X. Zhang, S. Ren, J. Sun: "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual
    Recognition". ECCV 2014 (TPAMI 2015).
tide: TIDE; Bolya et al.
    D. Bolya, S. Foley, J. Hays, J. Hoffman: "TIDE: A General Toolbox for Identifying Object Detection Errors".
    ECCV 2020.
unet: U-Net; Ronneberger et al.
    O. Ronneberger, P. Fischer, T. Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation". MICCAI
    2015.
vgg: VGG; VGG16; Simonyan and Zisserman
    K. Simonyan, A. Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition". ICLR 2015.
voc: PASCAL VOC; VOC; Everingham et al.
    M. Everingham et al.: "The PASCAL Visual Object Classes (VOC) Challenge". IJCV 88, 2010.
xception: Xception; Chollet
    F. Chollet: "Xception: Deep Learning with Depthwise Separable Convolutions". CVPR 2017.
yolo: YOLO; Redmon et al.
    J. Redmon, S. Divvala, R. Girshick, A. Farhadi: "You Only Look Once: Unified, Real-Time Object Detection". CVPR
    2016.
yolo9000: YOLO9000; YOLOv2
    J. Redmon, A. Farhadi: "YOLO9000: Better, Faster, Stronger". CVPR 2017.
winograd: Lavin and Gray
    A. Lavin, S. Gray: "Fast Algorithms for Convolutional Neural Networks". CVPR 2016; arXiv:1509.09308, 2015.
zf: Zeiler and Fergus
    M. D. Zeiler, R. Fergus: "Visualizing and Understanding Convolutional Networks". ECCV 2014.
"""


def _parse(text: str) -> dict[str, Paper]:
    """Entries: a line "key: name; name", then the citation on indented lines."""
    papers: dict[str, Paper] = {}
    key = ""
    for line in text.strip().splitlines():
        if line.startswith(" "):
            papers[key] = papers[key]._replace(citation=f"{papers[key].citation} {line.strip()}".strip())
        else:
            key, _, names = line.partition(": ")
            papers[key] = Paper(tuple(names.split("; ")), "")
    return papers


PAPERS = _parse(TEXT)
